"""Sparse convolutions on 3D voxel grids, in plain torch.

A `SparseTensor` holds features (N, C) and the `Voxels` that they belong to. Voxels have a stride in units of
the finest grid; their coordinates are those of lower corners, multiples of the stride. Rows are sorted by
cloud, then x, y, z. Coarser voxels and kernel maps are cached on the voxels: all layers of a forward pass
that start from the same voxels share them, and they are freed after the pass.

Conventions are those of MinkowskiEngine 0.5.4, so that weights trained with it load by name:

- `kernel` is (K^3, C_in, C_out), or (C_in, C_out) for a 1x1 convolution of stride 1; `bias` is (1, C_out).
- Row k of a kernel has the offset (k % K, k // K % K, k // K^2) along (x, y, z): x runs fastest. An odd
  kernel is centred (K // 2 is subtracted), an even one starts at the voxel itself. As in torch it is a
  cross-correlation: out(u) = sum over k of in(u + offset_k * stride of the input) @ kernel[k].
- So `kernel.view(K, K, K, C_in, C_out)` has the axes (z, y, x, in, out); permuted to (out, in, x, y, z) it is
  the weight of `torch.nn.Conv3d` on a volume that is indexed [x, y, z].
- A stride of s yields the voxels at multiples of s times the old stride that contain an input voxel.
- A generative transposed convolution yields a voxel at every offset of every voxel, and sums where several
  coincide: out(u + offset_k * stride of the output) gets in(u) @ kernel[k].
"""
