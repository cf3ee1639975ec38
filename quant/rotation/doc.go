// Package rotation turns the residual stream of a model into another basis, in
// which no channel stands out (QuaRot, arXiv:2404.00456), as msmodelslim does for
// Ascend (docs/facts/ascend.md 3.3): gains of norms go into the weights behind
// them, weights that read the stream are multiplied by an orthogonal Q from the
// right, weights that write to it by Qᵀ from the left. The model's function stays
// the same.
//
//	set, err := rotation.New(cfg)                  // matrices of the sizes that the model has
//	view, err := rotation.NewView(dir, set, nil)   // a source.Source: the rotated model
//	unmount, err := source.Mount(ctx, view)        // view.Name() is now a folder
//	ckpt, err := safetensors.OpenDir(view.Name())
//
// A [View] computes what is read of it and keeps nothing but the weight that is
// being rotated from the left. It holds what engines need besides: the MTP
// layer's own embedding and head, and rot.weight = Qᵀ·diag(g)·Q, by which the
// draft's input is multiplied because the final norm has lost its gains g.
//
// Latent attention has three rotations more, inside of a layer: of the query
// latents, of the key-value latents, and of the values of every head.
package rotation
