package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/slipway-ci/slipway/internal/step"
)

// checkAgainst checks custom resources that cannot be dry-run yet against the
// schemas in the definitions that come with them. It finds what a schema can
// say; rules in CEL and webhooks have their say once the definition is there.
func checkAgainst(grounds, later []*target) error {
	var refusals []error
	for _, t := range later {
		for _, g := range grounds {
			if !isDefinition(g.object) {
				continue
			}
			schema, err := schemaFor(g.object, t.object)
			if err != nil {
				refusals = append(refusals, step.BadInput(fmt.Errorf("%s: read its schema: %w; mend the manifest", located(g.object), err)))
			}
			if schema == nil {
				continue
			}
			result := validate.NewSchemaValidator(schema, nil, "", strfmt.Default).Validate(t.object.Object)
			for _, err := range result.Errors {
				refusals = append(refusals, step.BadInput(fmt.Errorf("%s: its definition in the same overlay does not allow it: %w; mend the manifest", located(t.object), err)))
			}
		}
	}
	return errors.Join(refusals...)
}

// schemaFor is what definition says of objects like object, or nil.
func schemaFor(definition, object *unstructured.Unstructured) (*spec.Schema, error) {
	gvk := object.GroupVersionKind()
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	if group != gvk.Group || kind != gvk.Kind {
		return nil, nil
	}
	for _, item := range versions {
		version, ok := item.(map[string]any)
		if !ok || version["name"] != gvk.Version {
			continue
		}
		content, found, err := unstructured.NestedMap(version, "schema", "openAPIV3Schema")
		if err != nil || !found {
			return nil, err
		}
		raw, err := json.Marshal(content)
		if err != nil {
			return nil, err
		}
		schema := &spec.Schema{}
		if err := json.Unmarshal(raw, schema); err != nil {
			return nil, err
		}
		allowDefaults(schema)
		return schema, nil
	}
	return nil, nil
}

// allowDefaults takes out of what schema requires, at any depth, the fields that
// have a default: the API server sets them before it looks.
// Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting.
func allowDefaults(schema *spec.Schema) {
	set := func(name string) bool { return schema.Properties[name].Default != nil }
	schema.Required = slices.DeleteFunc(schema.Required, set)
	for _, parts := range [][]spec.Schema{schema.AllOf, schema.AnyOf, schema.OneOf} {
		for i := range parts {
			parts[i].Required = slices.DeleteFunc(parts[i].Required, set)
		}
	}
	for name, property := range schema.Properties {
		allowDefaults(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		allowDefaults(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		allowDefaults(schema.AdditionalProperties.Schema)
	}
}

// checkTypes checks objects that cannot be dry-run yet, though the cluster has
// their kinds, against the API server's own schemas. It finds fields that are
// unknown or of another type, in the API server's words; what else is wrong a
// dry run finds once their namespace is there. So it does where schemas cannot
// be read.
func (c *cluster) checkTypes(later []*target) error {
	later = slices.DeleteFunc(slices.Clone(later), func(t *target) bool { return t.resource == nil })
	if len(later) == 0 {
		return nil
	}
	paths, err := c.served.OpenAPIV3().Paths()
	if err != nil {
		logf(c.log, "types of fields are not checked before the namespaces are there: %v", err)
		return nil
	}
	schemas := map[string]*spec.Schema{}
	for _, t := range later {
		at := "apis/" + t.object.GetAPIVersion()
		if t.object.GroupVersionKind().Group == "" {
			at = "api/" + t.object.GetAPIVersion()
		}
		path := paths[at]
		if path == nil {
			continue
		}
		content, err := path.Schema("application/json")
		var read spec3.OpenAPI
		if err == nil {
			err = json.Unmarshal(content, &read)
		}
		if err != nil || read.Components == nil {
			continue // its kind has no type below
		}
		maps.Copy(schemas, read.Components.Schemas)
		delete(paths, at)
	}
	types, err := managedfields.NewTypeConverter(schemas, false)
	if err != nil {
		logf(c.log, "types of fields are not checked before the namespaces are there: %v", err)
		return nil
	}
	var refusals []error
	for _, t := range later {
		// The error of a kind that has no type is managedfields' own; what is wrong
		// with an object comes as one error for each field.
		var fields typed.ValidationErrors
		if _, err := types.ObjectToTyped(t.object); errors.As(err, &fields) {
			refusals = append(refusals, step.BadInput(fmt.Errorf("%s: %w; mend the manifest", located(t.object), err)))
		}
	}
	return errors.Join(refusals...)
}
