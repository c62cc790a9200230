package tasks_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	triggersv1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
)

func TestTriggers(t *testing.T) {
	t.Parallel()
	c := load(t)
	for name, template := range c.templates {
		raw := marshal(t, template.Spec.ResourceTemplates)
		used := matches(usedTTParam, raw)
		for _, param := range template.Spec.Params {
			if !used[param.Name] {
				t.Errorf("TriggerTemplate %s: param %s is used nowhere", name, param.Name)
			}
		}
	}
	for name, trigger := range c.triggers {
		given := map[string]bool{}
		for _, binding := range trigger.Spec.Bindings {
			switch {
			case binding.Name != "":
				given[binding.Name] = true
			case c.bindings[binding.Ref] == nil:
				t.Errorf("Trigger %s: no TriggerBinding is named %s", name, binding.Ref)
			default:
				for _, param := range c.bindings[binding.Ref].Spec.Params {
					given[param.Name] = true
				}
			}
		}
		template, ok := c.templates[*trigger.Spec.Template.Ref]
		if !ok {
			t.Errorf("Trigger %s: no TriggerTemplate is named %s", name, *trigger.Spec.Template.Ref)
			continue
		}
		for _, param := range template.Spec.Params {
			if !given[param.Name] && param.Default == nil {
				t.Errorf("Trigger %s: param %s of the template is required and not given", name, param.Name)
			}
			delete(given, param.Name)
		}
		for _, unknown := range slices.Sorted(maps.Keys(given)) {
			t.Errorf("Trigger %s: the template has no param %s", name, unknown)
		}
	}
}

// GitHub's interceptor lets everything through that it has no secret for.
func TestListenersVerifyWhoSends(t *testing.T) {
	t.Parallel()
	c := load(t)
	if len(c.listeners) == 0 {
		t.Error("there is no EventListener to look at")
	}
	for name, listener := range c.listeners {
		if len(listener.Spec.Triggers) > 0 || listener.Spec.LabelSelector != nil {
			t.Errorf("EventListener %s: a trigger outside of a group passes by the group's interceptors", name)
		}
		for _, group := range listener.Spec.TriggerGroups {
			first := group.Interceptors[0]
			verifies := first.Ref.Name == "github" && slices.ContainsFunc(first.Params, func(p triggersv1.InterceptorParams) bool {
				return p.Name == "secretRef" && bytes.Contains(p.Value.Raw, []byte("secretName"))
			})
			if !verifies {
				t.Errorf("EventListener %s, group %s: its first interceptor does not verify the sender", name, group.Name)
			}
		}
	}
}
