package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipway-ci/slipway/internal/step"
)

// awaits reports whether err only says that the kind or the namespace of
// object does not exist yet, and one of grounds will make it.
func awaits(object *unstructured.Unstructured, grounds []*target, err error) bool {
	gk := object.GroupVersionKind().GroupKind()
	missing := missingNamespace(err)
	for _, g := range grounds {
		if missing != "" && isNamespace(g.object) && g.object.GetName() == missing {
			return true
		}
		if isDefinition(g.object) && meta.IsNoMatchError(err) {
			group, _, _ := unstructured.NestedString(g.object.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(g.object.Object, "spec", "names", "kind")
			if group == gk.Group && kind == gk.Kind {
				return true
			}
		}
	}
	return false
}

func missingNamespace(err error) string {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return ""
	}
	if details := status.Status().Details; details != nil && details.Kind == "namespaces" {
		return details.Name
	}
	return ""
}

func isNamespace(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Namespace" && o.GetAPIVersion() == "v1"
}

func isDefinition(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == "apiextensions.k8s.io"
}

func isClusterRole(o *unstructured.Unstructured) bool {
	return o.GetKind() == "ClusterRole" && o.GroupVersionKind().Group == "rbac.authorization.k8s.io"
}

// refusal is err, the API server's answer to applying t, as a person needs it:
// with the next step.
func refusal(t *target, err error) error {
	name := located(t.object)
	kind := t.object.GroupVersionKind()
	switch {
	case errors.Is(err, errOvertaken):
		return err
	case isOwnershipConflict(err):
		return fmt.Errorf("%s: %s; take the field out of the manifests, or name the manager in the param take-ownership-from",
			name, strings.Join(t.conflicts(err), ", "))
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: %w; %s", name, err, remedy(err.Error()))
	case meta.IsNoMatchError(err):
		return step.BadInput(fmt.Errorf("%s: the cluster has no kind %s in %s; install its definition or mend the apiVersion",
			name, kind.Kind, kind.GroupVersion()))
	case missingNamespace(err) != "":
		return step.BadInput(fmt.Errorf("%s: the namespace does not exist; create it, or add it to the overlay", name))
	case isImmutable(err) && !mayRecreate(t.object):
		return step.BadInput(fmt.Errorf("%s: %w; give it another name, or let it be deleted and created again with the annotation %s: allowed", name, err, annotationRecreate))
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), isMistyped(err):
		return step.BadInput(fmt.Errorf("%s: %w; mend the manifest", name, err))
	default:
		return fmt.Errorf("%s: %w", name, err)
	}
}

// missingRight matches what the API server says to whom a right is missing, or
// would give away more than he has. A quota, a policy or a webhook forbids in
// other words.
// Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters, and
// k8s.io/kubernetes/pkg/registry/rbac/validation.
var missingRight = regexp.MustCompile(`User "[^"]*" cannot \S+ (resource|path) |attempting to grant RBAC permissions not currently held`)

// remedy is what to do about an answer that says that something is forbidden.
func remedy(answer string) string {
	switch {
	case missingRight.MatchString(answer):
		return "grant it to the service account of the deploy, see tasks/deploy-rbac.yaml"
	case strings.Contains(answer, "exceeded quota: "):
		return "raise the quota, or ask for less"
	default:
		return "mend what it complains about"
	}
}

// refused ends an error with the state that things are in.
func (c *cluster) refused(ctx context.Context, err error, state string) error {
	if ctx.Err() != nil && !errors.Is(err, errOvertaken) {
		return fmt.Errorf("stopped: %w; %s; run it again", err, state)
	}
	return fmt.Errorf("%w (%s)", err, state)
}
