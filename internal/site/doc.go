// Package site assembles the documentation site's pages:
//
//	err := site.Build(site.Options{Root: ".", Out: "out/site", Describe: raw})
//
// Pages under docs are copied, with links that leave docs turned into links to the
// repository; the reference (commands, codes, JSON schemas, schemes, engines) is
// written from what the command says of itself (glmconv __describe) and from the
// tables of packages. mkdocs makes HTML of them: make site.
//
// [Links] finds links of the assembled pages that lead nowhere.
package site
