// Command release builds what a release consists of, with Go alone:
//
//	go run . -out ../../out/release          # everything, for the commit that is checked out
//	go run . -check ../../out/release-check  # twice, compares, installs and runs it
//	go run . -notice ../../NOTICE            # licences of the modules in the binary
//
// Binaries for linux and darwin on amd64 and arm64, archives, manual pages,
// completions, wheels with the binary inside, deb and rpm, an OCI image layout from
// scratch, a Homebrew formula, a CycloneDX list of modules and SHA256SUMS. All of it
// has the time of the commit, so that two builds of one commit are equal.
//
// It is a module of its own: what it needs is not a dependency of glmconv.
package main
