module example.com/story

go 1.26.0

require github.com/glmconv/glmconv v0.0.0

replace github.com/glmconv/glmconv => ../../../..
