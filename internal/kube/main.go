// Command kube holds Kubernetes manifests against the API server's own code of 1.37,
// without a server: strict decoding, defaults, conversion and validation. It is a module
// of its own, since nothing else needs it.
//
//	kube [-restricted] FILE...
//
// A LeaderWorkerSet is no resource of Kubernetes: of it the templates of its pods are
// validated. -restricted holds pods against the level "restricted" of the Pod Security
// Standards as well.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	yamls "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func main() {
	restricted := flag.Bool("restricted", false, "hold pods against the level restricted of the Pod Security Standards")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	failed := false
	for _, name := range flag.Args() {
		text, err := os.ReadFile(name)
		if err == nil {
			err = Validate(text, *restricted)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// Validate holds every document of a manifest against what the server does with it.
func Validate(text []byte, restricted bool) error {
	docs := yamls.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer docs.Close() //nolint:errcheck // memory
	buf := make([]byte, len(text)+1)
	for n := 0; ; n++ {
		size, err := docs.Read(buf)
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return nil
		case err != nil:
			return err
		}
		if err := document(buf[:size], restricted); err != nil {
			return fmt.Errorf("document %d: %w", n+1, err)
		}
	}
}

func document(text []byte, restricted bool) error {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(raw); err != nil {
		return err
	}
	if u.GetKind() == "LeaderWorkerSet" {
		return leaderWorkerSet(&u, restricted)
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, legacyscheme.Scheme, legacyscheme.Scheme, json.SerializerOptions{Strict: true})
	obj, _, err := strict.Decode(raw, nil, nil)
	if err != nil {
		return err
	}
	return create(obj, restricted)
}

// create does what the server does with an object that is created: defaults, what it
// fills in, validation.
func create(obj runtime.Object, restricted bool) error {
	var pod *corev1.PodTemplateSpec
	switch o := obj.(type) {
	case *batchv1.Job:
		pod = &o.Spec.Template
	case *appsv1.Deployment:
		pod = &o.Spec.Template
	case *corev1.PodTemplate:
		pod = &o.Template
	}
	if restricted && pod != nil {
		if err := secure(pod); err != nil {
			return err
		}
	}
	legacyscheme.Scheme.Default(obj)
	internal, err := legacyscheme.Scheme.ConvertToVersion(obj, runtime.InternalGroupVersioner)
	if err != nil {
		return err
	}
	m, err := meta.Accessor(internal)
	if err != nil {
		return err
	}
	if m.GetNamespace() == "" {
		m.SetNamespace("default")
	}
	m.SetUID("00000000-0000-0000-0000-000000000000")
	switch o := internal.(type) {
	case *batch.Job:
		selected(o)
		return batchvalidation.ValidateJobCreate(o, batchvalidation.JobValidationOptions{RequirePrefixedLabels: true}).ToAggregate()
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{}).ToAggregate()
	case *core.PodTemplate:
		return corevalidation.ValidatePodTemplate(o, corevalidation.PodValidationOptions{}).ToAggregate()
	case *core.Service:
		return corevalidation.ValidateServiceCreate(o).ToAggregate()
	case *core.ServiceAccount:
		return corevalidation.ValidateServiceAccount(o).ToAggregate()
	}
	return fmt.Errorf("%T is not created by glmconv", obj)
}

// selected gives a job the selector and labels that the server generates.
func selected(j *batch.Job) {
	labels := map[string]string{"batch.kubernetes.io/controller-uid": string(j.UID), "batch.kubernetes.io/job-name": j.Name,
		"controller-uid": string(j.UID), "job-name": j.Name}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	maps.Copy(j.Spec.Template.Labels, labels)
	j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": string(j.UID)}}
}

// secure holds a pod against the level restricted.
func secure(pod *corev1.PodTemplateSpec) error {
	all, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	if r := policy.AggregateCheckResults(all.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
		return fmt.Errorf("restricted: %s: %s", r.ForbiddenReason(), r.ForbiddenDetail())
	}
	return nil
}

// leaderWorkerSet validates the templates of a set's pods.
func leaderWorkerSet(u *unstructured.Unstructured, restricted bool) error {
	found := false
	for _, name := range []string{"leaderTemplate", "workerTemplate"} {
		t, ok, err := unstructured.NestedMap(u.Object, "spec", "leaderWorkerTemplate", name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		found = true
		raw, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "PodTemplate", "metadata": map[string]any{"name": u.GetName()}, "template": t})
		if err != nil {
			return err
		}
		if err := document(raw, restricted); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !found {
		return errors.New("a LeaderWorkerSet without templates of pods")
	}
	return nil
}
