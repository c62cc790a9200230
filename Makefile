# Four verbs do everything: demo, test, cluster, cluster-down. See README.md.

.PHONY: cluster cluster-down
cluster: ## Bring up a real single-node cluster with Tekton (root on Debian)
	@go run ./test/cluster/cli up

cluster-down: ## Remove it again, all of it
	@go run ./test/cluster/cli down
