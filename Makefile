# Run as root on Debian, or with KUBECONFIG for a cluster of your own: README.md.

.PHONY: demo test test-all unit cluster cluster-down

demo: cluster ## A push becomes a running app; one line changed; nothing changed
	@go run ./test/demo

test: ## All levels but the long matrices; leaves nothing running
	@go run ./test/suite

test-all: ## And the levels that take long
	@go run ./test/suite all

unit: ## The fast levels: packages, contract, programs, lint
	@go run ./test/suite unit lint

cluster: ## Bring up a real single-node cluster with Tekton
	@go run ./test/cluster/cli up

cluster-down: ## Remove it again, all of it
	@go run ./test/cluster/cli down
