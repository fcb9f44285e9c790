// What the guards cost: the API server tells it in no metric, so this asks the API server's own code.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/google/cel-go/common/types"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	params := flag.String("params", "", "a file with the objects that parameters come from")
	repeat := flag.Int("repeat", 1, "how often each object is judged; the time is the mean")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "cel-cost --params FILE [--repeat N] POLICIES OBJECTS\n"+
			"The CEL cost of each ValidatingAdmissionPolicy for the creation of each object, as one line of JSON each.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *params, *repeat); err != nil {
		fmt.Fprintln(os.Stderr, "cel-cost:", err)
		os.Exit(1)
	}
}

func run(policyFile, objectFile, paramFile string, repeat int) error {
	policies, err := read(policyFile)
	if err != nil {
		return err
	}
	objects, err := read(objectFile)
	if err != nil {
		return err
	}
	parameters, err := read(paramFile)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, object := range policies {
		if object.GetKind() != "ValidatingAdmissionPolicy" {
			continue
		}
		policy := &admissionregistration.ValidatingAdmissionPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, policy); err != nil {
			return err
		}
		compiled, err := compile(policy)
		if err != nil {
			return err
		}
		for _, object := range objects {
			if !compiled.looksAt(object) {
				continue
			}
			line, err := compiled.judge(object, parameters, repeat)
			if err != nil {
				return err
			}
			if err := out.Encode(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// A policy as the API server holds it: k8s.io/apiserver, pkg/admission/plugin/policy/validating/plugin.go, compilePolicy.
type compiled struct {
	policy                       *admissionregistration.ValidatingAdmissionPolicy
	match, validations, messages cel.ConditionEvaluator
	took                         time.Duration
}

func compile(policy *admissionregistration.ValidatingAdmissionPolicy) (*compiled, error) {
	started := processorTime()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, err
	}
	hasParams := policy.Spec.ParamKind != nil
	conditions := cel.OptionalVariableDeclarations{HasParams: hasParams, HasAuthorizer: true}
	var variables []cel.NamedExpressionAccessor
	for _, variable := range policy.Spec.Variables {
		variables = append(variables, &validating.Variable{Name: variable.Name, Expression: variable.Expression})
	}
	for _, variable := range variables {
		if err := compiler.CompileAndStoreVariable(variable, conditions, environment.StoredExpressions).Error; err != nil {
			return nil, fmt.Errorf("%s, variable %s: %w", policy.Name, variable.GetName(), err)
		}
	}
	var match, validations, messages []cel.ExpressionAccessor
	for _, condition := range policy.Spec.MatchConditions {
		match = append(match, (*matchconditions.MatchCondition)(&condition))
	}
	for _, validation := range policy.Spec.Validations {
		validations = append(validations, &validating.ValidationCondition{Expression: validation.Expression, Message: validation.Message})
		var message cel.ExpressionAccessor
		if validation.MessageExpression != "" {
			message = &validating.MessageExpressionCondition{MessageExpression: validation.MessageExpression}
		}
		messages = append(messages, message)
	}
	return &compiled{
		policy:      policy,
		match:       compiler.CompileCondition(match, conditions, environment.StoredExpressions),
		validations: compiler.CompileCondition(validations, conditions, environment.StoredExpressions),
		messages:    compiler.CompileCondition(messages, cel.OptionalVariableDeclarations{HasParams: hasParams}, environment.StoredExpressions),
		took:        processorTime() - started,
	}, nil
}

// resource is the plain plural: all kinds that the guards name have it.
func resource(object *unstructured.Unstructured) schema.GroupVersionResource {
	resource, _ := apimeta.UnsafeGuessKindToResource(object.GroupVersionKind())
	return resource
}

func (c *compiled) looksAt(object *unstructured.Unstructured) bool {
	resource := resource(object)
	return slices.ContainsFunc(c.policy.Spec.MatchConstraints.ResourceRules, func(rule admissionregistration.NamedRuleWithOperations) bool {
		has := func(list []string, wanted string) bool {
			return slices.Contains(list, "*") || slices.Contains(list, wanted)
		}
		created := slices.Contains(rule.Operations, admissionregistration.Create) || slices.Contains(rule.Operations, admissionregistration.OperationAll)
		return created && has(rule.APIGroups, resource.Group) && has(rule.Resources, resource.Resource)
	})
}

type line struct {
	Policy  string  `json:"policy"`
	Object  string  `json:"object"`
	Compile float64 `json:"compileMilliseconds"`
	// Whether every match condition holds.
	Matches bool `json:"matches"`
	// Cost units of the match conditions (the API server allows 2,500,000), and of validations and messages together (10,000,000).
	MatchCost int64 `json:"matchCost"`
	Cost      int64 `json:"cost"`
	// Mean processor time of one judgement, garbage collection included.
	Microseconds float64 `json:"microseconds"`
	// What a user would read; empty where it passes.
	Refused string `json:"refused,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (c *compiled) judge(object *unstructured.Unstructured, parameters []*unstructured.Unstructured, repeat int) (line, error) {
	answer := line{
		Policy: c.policy.Name, Object: object.GetKind() + "/" + object.GetName(),
		Compile: float64(c.took.Microseconds()) / 1000,
	}
	var inputs cel.OptionalVariableBindings
	if kind := c.policy.Spec.ParamKind; kind != nil {
		index := slices.IndexFunc(parameters, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind.Kind })
		if index < 0 {
			return answer, fmt.Errorf("no %s is given, which %s is held against", kind.Kind, c.policy.Name)
		}
		inputs.VersionedParams = parameters[index]
	}
	// Kinds of Kubernetes itself reach the policies as Go types, all others as maps.
	var typed runtime.Object = object
	if known, err := scheme.Scheme.New(object.GroupVersionKind()); err == nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, known); err != nil {
			return answer, fmt.Errorf("%s: %w", answer.Object, err)
		}
		typed = known
	}
	who := &user.DefaultInfo{Name: "someone", Groups: []string{"system:authenticated"}}
	resource := resource(object)
	attributes := &admission.VersionedAttributes{
		Attributes: admission.NewAttributesRecord(typed, nil, object.GroupVersionKind(), object.GetNamespace(), object.GetName(),
			resource, "", admission.Create, &meta.CreateOptions{}, false, who),
		VersionedKind: object.GroupVersionKind(),
	}
	attributes.VersionedObject.Set(typed)
	request := cel.CreateAdmissionRequest(attributes, meta.GroupVersionResource(resource), meta.GroupVersionKind(object.GroupVersionKind()))
	namespace := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: object.GetNamespace()}}
	started := processorTime()
	for range repeat {
		answer.MatchCost, answer.Cost, answer.Refused, answer.Error = 0, 0, "", ""
		ctx := context.Background()
		conditions, left, err := c.match.ForInput(ctx, attributes, request, inputs, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
		answer.MatchCost = celconfig.RuntimeCELCostBudgetMatchConditions - left
		if err != nil {
			answer.Error = err.Error()
			continue
		}
		answer.Matches = !slices.ContainsFunc(conditions, func(r cel.EvaluationResult) bool { return r.EvalResult == types.False })
		if !answer.Matches {
			continue
		}
		results, left, err := c.validations.ForInput(ctx, attributes, request, inputs, namespace, celconfig.RuntimeCELCostBudget)
		if err != nil {
			answer.Error = err.Error()
			continue
		}
		// Messages are written also where nothing is refused.
		messages, left, err := c.messages.ForInput(ctx, attributes, request, inputs, namespace, left)
		answer.Cost = celconfig.RuntimeCELCostBudget - left
		if err != nil {
			answer.Error = err.Error()
			continue
		}
		for i, result := range results {
			if result.Error != nil {
				answer.Error = result.Error.Error()
			} else if result.EvalResult != types.True && messages[i].EvalResult != nil {
				answer.Refused = fmt.Sprint(messages[i].EvalResult.Value())
			}
		}
	}
	answer.Microseconds = float64((processorTime() - started).Microseconds()) / float64(repeat)
	return answer, nil
}

// The processor time of this process until now: what else the machine does is not in it.
func processorTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func read(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	var all []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
}
