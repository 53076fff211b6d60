// The anchor of the operator's GPU benchmark: deformable attention split the way the first public kernels did it, one
// thread for each channel of each query and head. Every thread works out every footprint anew and loads one float at a
// time; level sizes are device tensors. float32 only; for benchmarks, never a backend.
//
// Registers, in the namespace REFERTRACK_NS, with sizes [L,2] (h, w) and starts [L] int64 on the device:
//   forward(Tensor value, Tensor sizes, Tensor starts, Tensor loc, Tensor attn) -> Tensor
//   backward(Tensor grad_out, Tensor value, Tensor sizes, Tensor starts, Tensor loc, Tensor attn)
//       -> (Tensor, Tensor, Tensor)

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>

#include "cuda_launch.cuh"

#ifndef MSDA_KEY
#define MSDA_KEY CUDA
#endif

namespace {

using torch::stable::Tensor;

constexpr int kBlock = 256;

struct Sizes {
  int tokens, queries, heads, channels, levels, points;
};

// Where in the map a point lies; `offset` is of the upper left corner's channel in the frame.
struct Place {
  bool counts, left, right, top, bottom;
  float fx, fy;
  int offset, column, row;
};

__device__ Place place(const Sizes& s, const int64_t* sizes, const int64_t* starts, int level, float loc_x,
                       float loc_y, int head, int channel) {
  const int h = int(sizes[2 * level]), w = int(sizes[2 * level + 1]);
  const float x = loc_x * w - 0.5f, y = loc_y * h - 0.5f;
  Place p{};
  p.counts = x > -1 && y > -1 && x < w && y < h;
  if (!p.counts) return p;
  const int x0 = int(floorf(x)), y0 = int(floorf(y));
  p.fx = x - x0, p.fy = y - y0;
  p.left = x0 >= 0, p.right = x0 + 1 < w, p.top = y0 >= 0, p.bottom = y0 + 1 < h;
  p.column = s.heads * s.channels, p.row = w * p.column;
  p.offset = int(starts[level]) * p.column + y0 * p.row + x0 * p.column + head * s.channels + channel;
  return p;
}

__global__ void classic_forward(Sizes s, int threads, const float* __restrict__ value,
                                const int64_t* __restrict__ sizes, const int64_t* __restrict__ starts,
                                const float* __restrict__ loc, const float* __restrict__ attn,
                                float* __restrict__ out) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < threads; i += gridDim.x * blockDim.x) {
    const int channel = i % s.channels, row = i / s.channels, head = row % s.heads;
    const float* frame = value + int64_t(row / s.heads / s.queries) * s.tokens * s.heads * s.channels;
    float sum = 0;
    for (int level = 0; level < s.levels; ++level) {
      for (int p = 0; p < s.points; ++p) {
        const int point = (row * s.levels + level) * s.points + p;
        const Place at = place(s, sizes, starts, level, loc[2 * point], loc[2 * point + 1], head, channel);
        if (!at.counts) continue;
        float v00 = 0, v01 = 0, v10 = 0, v11 = 0;
        if (at.top && at.left) v00 = frame[at.offset];
        if (at.top && at.right) v01 = frame[at.offset + at.column];
        if (at.bottom && at.left) v10 = frame[at.offset + at.row];
        if (at.bottom && at.right) v11 = frame[at.offset + at.row + at.column];
        const float upper = (1 - at.fx) * v00 + at.fx * v01, lower = (1 - at.fx) * v10 + at.fx * v11;
        sum += attn[point] * ((1 - at.fy) * upper + at.fy * lower);
      }
    }
    out[i] = sum;
  }
}

// One block per row, one thread per channel; per point the three scalar gradients are summed over the block.
template <int CHANNELS>
__global__ void classic_backward(Sizes s, const float* __restrict__ grad_out, const float* __restrict__ value,
                                 const int64_t* __restrict__ sizes, const int64_t* __restrict__ starts,
                                 const float* __restrict__ loc, const float* __restrict__ attn, float* grad_value,
                                 float* __restrict__ grad_loc, float* __restrict__ grad_attn) {
  __shared__ float parts[3][CHANNELS];
  const int row = blockIdx.x, head = row % s.heads, channel = threadIdx.x;
  const int64_t skipped = int64_t(row / s.heads / s.queries) * s.tokens * s.heads * CHANNELS;
  const float* frame = value + skipped;
  float* grad_frame = grad_value + skipped;
  const float g = grad_out[row * CHANNELS + channel];
  for (int level = 0; level < s.levels; ++level) {
    for (int p = 0; p < s.points; ++p) {
      const int point = (row * s.levels + level) * s.points + p;
      const Place at = place(s, sizes, starts, level, loc[2 * point], loc[2 * point + 1], head, channel);
      const float a = attn[point], fx = at.fx, fy = at.fy;
      float v00 = 0, v01 = 0, v10 = 0, v11 = 0;
      if (at.counts) {
        if (at.top && at.left) {
          v00 = frame[at.offset];
          atomicAdd(grad_frame + at.offset, a * (1 - fy) * (1 - fx) * g);
        }
        if (at.top && at.right) {
          v01 = frame[at.offset + at.column];
          atomicAdd(grad_frame + at.offset + at.column, a * (1 - fy) * fx * g);
        }
        if (at.bottom && at.left) {
          v10 = frame[at.offset + at.row];
          atomicAdd(grad_frame + at.offset + at.row, a * fy * (1 - fx) * g);
        }
        if (at.bottom && at.right) {
          v11 = frame[at.offset + at.row + at.column];
          atomicAdd(grad_frame + at.offset + at.row + at.column, a * fy * fx * g);
        }
      }
      parts[0][channel] = g * ((1 - fy) * ((1 - fx) * v00 + fx * v01) + fy * ((1 - fx) * v10 + fx * v11));
      parts[1][channel] = g * a * float(sizes[2 * level + 1]) * ((1 - fy) * (v01 - v00) + fy * (v11 - v10));
      parts[2][channel] = g * a * float(sizes[2 * level]) * ((1 - fx) * (v10 - v00) + fx * (v11 - v01));
      __syncthreads();
      if (channel == 0) {
        float sums[3] = {};
        for (int c = 0; c < CHANNELS; ++c)
          for (int k = 0; k < 3; ++k) sums[k] += parts[k][c];
        grad_attn[point] = sums[0], grad_loc[2 * point] = sums[1], grad_loc[2 * point + 1] = sums[2];
      }
      __syncthreads();
    }
  }
}

Sizes sizes_of(const Tensor& value, const Tensor& loc) {
  STD_TORCH_CHECK(value.size(3) == 32 && loc.numel() < (int64_t(1) << 31) && value.numel() < (int64_t(1) << 31),
                  "the classic split is built for 32 channels a head and fewer than 2^31 elements");
  return {int(value.size(1)), int(loc.size(1)), int(loc.size(2)), 32, int(loc.size(3)), int(loc.size(4))};
}

template <typename T>
T* pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

Tensor forward(Tensor value, Tensor sizes, Tensor starts, Tensor loc, Tensor attn) {
  const Sizes s = sizes_of(value, loc);
  Tensor out = torch::stable::new_empty(value, {loc.size(0), s.queries, s.heads, s.channels});
  const OnDevice device(value);
  const int threads = int(out.numel());
  start("classic forward", classic_forward, dim3((threads + kBlock - 1) / kBlock), kBlock, device, s, threads,
        pointer<float>(value), pointer<int64_t>(sizes), pointer<int64_t>(starts),
        pointer<float>(loc), pointer<float>(attn), pointer<float>(out));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(Tensor grad_out, Tensor value, Tensor sizes, Tensor starts, Tensor loc,
                                            Tensor attn) {
  const Sizes s = sizes_of(value, loc);
  Tensor grad_value = torch::stable::new_zeros(value, {value.size(0), s.tokens, s.heads, s.channels});
  Tensor grad_loc = torch::stable::empty_like(loc), grad_attn = torch::stable::empty_like(attn);
  const OnDevice device(value);
  start("classic backward", classic_backward<32>, dim3(unsigned(loc.size(0)) * s.queries * s.heads), 32, device, s,
        pointer<float>(grad_out), pointer<float>(value), pointer<int64_t>(sizes), pointer<int64_t>(starts),
        pointer<float>(loc), pointer<float>(attn), pointer<float>(grad_value), pointer<float>(grad_loc),
        pointer<float>(grad_attn));
  return {grad_value, grad_loc, grad_attn};
}

}  // namespace

#define CLASSIC_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
#define CLASSIC_LIBRARY_IMPL(name, key, m) STABLE_TORCH_LIBRARY_IMPL(name, key, m)

CLASSIC_LIBRARY(REFERTRACK_NS, m) {
  m.def("forward(Tensor value, Tensor sizes, Tensor starts, Tensor loc, Tensor attn) -> Tensor");
  m.def(
      "backward(Tensor grad_out, Tensor value, Tensor sizes, Tensor starts, Tensor loc, Tensor attn)"
      " -> (Tensor, Tensor, Tensor)");
}

CLASSIC_LIBRARY_IMPL(REFERTRACK_NS, MSDA_KEY, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("backward", TORCH_BOX(&backward));
}
