# Run as root on Debian: README.md. With KUBECONFIG, demo and test use a cluster of your own.

.PHONY: demo test test-all unit bench bench-report cluster cluster-down

demo: cluster ## A push becomes a running app; one line changed; nothing changed
	@go run ./test/demo

test: ## All levels but the long matrices; leaves nothing running
	@go run ./test/suite

test-all: ## And the levels that take long
	@go run ./test/suite all

unit: ## The fast levels: packages, contract, programs, lint
	@go run ./test/suite unit lint

bench: cluster ## Side by side with what people use instead; narrowed by CASE= APP= WITH= RUNS=
	@CASE="$(CASE)" APP="$(APP)" WITH="$(WITH)" RUNS="$(RUNS)" go run ./test/bench

bench-report: ## docs/bench from what make bench has measured
	@go run ./test/bench report

cluster: ## Bring up a real single-node cluster with Tekton
	@go run ./test/cluster/cli up

cluster-down: ## Remove it again, all of it
	@go run ./test/cluster/cli down
