// Empty: with it, Go takes functions without a body, which controller.go links to those of k8s.io/apiserver.
