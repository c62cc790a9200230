package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

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
