"""Points come in, features on the occupied voxels of a 3D grid go out: sparse convolution in plain torch.

A `SparseTensor` holds features (N, C) and the `Voxels` that they belong to. Voxels know their stride, in units
of the finest grid; their coordinates are those of lower corners, multiples of the stride. Rows are sorted by
cloud, then x, y, z. What is found out about voxels, the coarser ones and the neighbours of each, is kept with
them: all layers of a forward pass that start from the same voxels share it, and it goes when the pass is over.

Conventions are those of MinkowskiEngine 0.5.4, so that weights which were trained with it can be loaded by name:

- `kernel` is (K^3, C_in, C_out), or (C_in, C_out) for a 1x1 convolution of stride 1; `bias` is (1, C_out).
- Row k of a kernel is the offset (k % K, k // K % K, k // K^2) along (x, y, z): x runs fastest. An odd kernel
  is centred (K // 2 is taken off), an even one starts at the voxel itself. As in torch nothing is mirrored:
  out(u) = sum over k of in(u + offset_k * stride of the input) @ kernel[k].
- So `kernel.view(K, K, K, C_in, C_out)` has the axes (z, y, x, in, out); permuted to (out, in, x, y, z) it is
  the weight of `torch.nn.Conv3d` on a volume that is indexed [x, y, z].
- A stride of s makes voxels at the multiples of s times the old stride under which a voxel lies.
- A generative transposed convolution makes a voxel at every offset of every voxel, and sums where some meet:
  out(u + offset_k * stride of the output) gets in(u) @ kernel[k].
"""
