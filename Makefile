# One line a target. Tools are pinned in tools.mod and built into .cache.
GO ?= go
LINT := .cache/golangci-lint
VULN := .cache/govulncheck

.PHONY: vuln deps build demo stories interop test race purego lint fmt vet fuzz-short cross arm64 bench bench-kernels bench-quantize bench-verify bench-peers bench-accuracy generate generated clean ci torture manifests arguments release release-check notice site
# As it is released: without cgo, and without the library for manual pages, which compiles its patterns at each start.
build: ; CGO_ENABLED=0 $(GO) build $(QUICK) -tags urfave_cli_no_docs -o bin/glmconv ./cmd/glmconv
# Data for debuggers are an eighth of the time that the first build takes.
demo: QUICK := -ldflags=-w -gcflags=all=-dwarf=false
demo: build ; mkdir -p out && ./bin/glmconv demo --report out/demo.html
# From file to service on the reference models: text, pictures, Ascend. STORY=2 tells one.
stories: build ; ./.ci/stories $(STORY)
test: ; $(GO) test -timeout 30m ./...
# What `make test` has run (faults, damage, every combination, long stories) need not be run again without vectors or with the race detector.
SWEPT := -skip '^(TestSweep.*|TestDivisionByParts|TestSuiteOf.*|TestEveryCombination|TestBytesAreThoseRecorded|TestMicroscalingIsLLMCompressors|TestPublishedModelsResolve|TestEveryLayoutOfEveryFamily|TestHubFaults|TestEverySourceIsTheLocalCopy|TestBucketFaults|TestSamples|TestHostileValues|TestDoubling|TestMutationsOf.*|TestFamilyMutations|TestEveryMutationIsSeen|TestParts.*|TestBudget|TestSolveOfFP8|TestCalibrateMemory|TestMeasureIsRepeatable|TestNoDetour|TestAction|TestTutorials|TestUniformFaults.*|TestBestIsNoWorse|TestRotationAgainstOutliers|TestRotatedWithinTheNoiseFloor|TestSmoothed.*|TestDamagedCopies|TestKilledWithACache|TestPage|TestPageInABrowser|TestPageByKeyboard|TestRecipePage)$$|^TestScripts?$$/^(ascend_story|budget|learnt8|calibrate|verify_parts|recipes|static|static_grouped|rotate)$$'
# The goldens of runtime take very long under the race detector; tests of threads are what it is for. Packages without a goroutine of their own are left out.
ALONE := /(runtime|quant/layout|glm/origin|internal/(archtest|mutate|outside|samples|site)|jinja|mtp|repair|runtime/(spec|vision)|verify/(companion|stats))$$
race: ; $(GO) test -race -timeout 30m $(SWEPT) $$($(GO) list ./... | grep -Ev '$(ALONE)') && $(GO) test -race -timeout 30m -run 'Determin|Thread|Stream' ./runtime
# Vectors are in four packages; what computes with them is tested without them, everything is built and vetted.
PUREGO := ./internal/cpu ./internal/bench/... ./quant/... ./runtime/... ./verify/diff ./calib ./mtp ./glm/...
purego: ; $(GO) vet -tags purego ./... && $(GO) test -tags purego -timeout 30m $(SWEPT) $(PUREGO)
vet: ; $(GO) vet ./... && $(GO) vet -tags purego ./...
lint: $(LINT) vet ; $(LINT) run ./... && $(GO) test -run Cited ./internal/archtest
fmt: ; gofmt -l -w cmd glm internal mtp quant runtime safetensors verify
# Exit code 3: the database of vulnerabilities cannot be reached from here.
vuln: $(VULN) ; ./.ci/vuln
deps: build ; ./.ci/deps
fuzz-short: ; ./.ci/fuzz 6s
cross: ; GOOS=linux GOARCH=arm64 $(GO) build ./... && GOOS=darwin GOARCH=arm64 $(GO) build ./... && GOOS=windows GOARCH=amd64 $(GO) vet ./safetensors ./internal/fsx
# Needs qemu-user, which root on Debian gets by itself.
arm64: ; ./.ci/arm64
bench: bench-kernels bench-quantize bench-verify
bench-kernels: ; $(GO) run ./internal/bench/kernels
bench-quantize: build ; $(GO) run ./internal/bench/quantize
bench-verify: ; $(GO) run ./internal/bench/verify
# MODELS="DIR …"; ACCURACY="-schemes w4a16 -calib FILE -eval FILE" passes flags.
bench-accuracy: build ; $(GO) run ./internal/bench/accuracy $(ACCURACY) ./bin/glmconv $(MODELS)
# PEERS="-only matmul -pairs 3" passes flags.
bench-peers: build ; $(GO) run ./internal/bench/peers $(PEERS)
interop: ; ./interop/run
generate:
	cd internal/asm && $(GO) run ./tile -out ../../runtime/kernel/tile_amd64.s -stubs ../../runtime/kernel/tile_asm_amd64.go -pkg kernel
	cd internal/asm && $(GO) run ./panel -out ../../runtime/kernel/panel_amd64.s -stubs ../../runtime/kernel/panel_asm_amd64.go -pkg kernel
	cd internal/asm && $(GO) run ./amx -out ../../runtime/kernel/amx_amd64.s -stubs ../../runtime/kernel/amx_asm_amd64.go -pkg kernel
	cd internal/asm && $(GO) run ./rows -out ../../runtime/kernel/rows_amd64.s -stubs ../../runtime/kernel/rows_asm_amd64.go -pkg kernel
	cd internal/asm && $(GO) run ./convert -out ../../quant/numeric/convert_amd64.s -stubs ../../quant/numeric/convert_asm_amd64.go -pkg numeric
	cd internal/asm && $(GO) run ./walsh -out ../../quant/rotation/walsh_amd64.s -stubs ../../quant/rotation/walsh_asm_amd64.go -pkg rotation
	cd internal/asm && $(GO) run ./neon -out ../../quant/numeric/convert_arm64.s -stubs ../../quant/numeric/convert_asm_arm64.go -pkg numeric
	cd internal/asm && $(GO) run ./compare -out ../../verify/diff/totals_amd64.s -stubs ../../verify/diff/totals_asm_amd64.go -pkg diff
	cd internal/asm && $(GO) run ./limits -out ../bench/limits/limits_amd64.s -stubs ../bench/limits/limits_asm_amd64.go -pkg limits
generated: generate ; git diff --exit-code -- '*_amd64.s' '*_asm_amd64.go' '*_arm64.s' '*_asm_arm64.go' && cd internal/asm && $(GO) test ./...
ci: ; ./.ci/run
# Sweeps of faults, for long; writes the counts into docs/reliability.md. Then manifests under Kubernetes' own validation and compose's own loader, the commands of
# recipe through the engines' own parsers, and a release, built twice.
FOR ?= 15m
torture: ; $(GO) run ./internal/torture -for $(FOR) && $(MAKE) stories manifests arguments release-check
# What submit and recipe print, under the validation code of Kubernetes and the loader of docker compose (fetches and builds their modules).
manifests: ; set -e; for m in kube compose; do (cd internal/$$m && $(GO) vet ./... && $(GO) test ./...); done
# Every command that recipe prints, for each preset, scheme, device, topology and goal, through the parsers of vLLM and SGLang themselves (interop/run sets their environment up).
arguments: ; ./interop/run sglang -k test_arguments
# Everything of a release, with Go alone; release-check builds it twice, compares, installs and runs it, and builds the site.
release: ; cd internal/release && $(GO) run . -out ../../out/release
release-check: site ; cd internal/release && $(GO) vet ./... && $(GO) test ./... && $(GO) run . -check ../../out/release-check $(RELEASE)
# The documentation site, in out/site/html (needs Python and a package index for mkdocs-material).
site: build .cache/mkdocs/bin/mkdocs
	./bin/glmconv __describe >.cache/describe.json && $(GO) run ./internal/site/build -out out/site <.cache/describe.json
	cd out/site && NO_MKDOCS_2_WARNING=1 ../../.cache/mkdocs/bin/mkdocs build --strict
notice: ; cd internal/release && $(GO) run . -notice ../../NOTICE
clean: ; rm -rf bin out .cache interop/.cache interop/.venv-*

$(VULN): tools.mod tools.sum ; $(GO) build -modfile=tools.mod -o $@ golang.org/x/vuln/cmd/govulncheck
$(LINT): tools.mod tools.sum ; $(GO) build -modfile=tools.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
.cache/mkdocs/bin/mkdocs: docs/requirements.txt ; python3 -m venv .cache/mkdocs && .cache/mkdocs/bin/pip install -q -r $<
