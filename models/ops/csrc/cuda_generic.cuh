// Forward and backward for any channel count, alignment and value type, float64 included: one warp per row (n, q, h),
// its lanes stride over the channels. Also the two passes of the deterministic backward around the main kernel.
#pragma once

#include "cuda_common.cuh"

namespace {

constexpr int kGenericBlock = 128;

struct WarpRow {
  int lane, row, head;
  bool live;
  int64_t global_row, value_base;
  __device__ WarpRow(const Problem& problem) {
    lane = threadIdx.x % 32;
    const unsigned wanted = blockIdx.x * (kGenericBlock / 32) + threadIdx.x / 32;
    live = wanted < unsigned(problem.rows);
    row = min(wanted, unsigned(problem.rows - 1));
    head = row % problem.heads;
    global_row = int64_t(blockIdx.y) * problem.rows + row;
    value_base = int64_t(blockIdx.y) * problem.frame + int64_t(head) * problem.head_stride;
  }
};

template <typename T, typename R>
__global__ __launch_bounds__(kGenericBlock) void generic_forward(const __grid_constant__ Problem problem,
                                                                 const T* __restrict__ value, const R* __restrict__ loc,
                                                                 const R* __restrict__ attn, T* __restrict__ out) {
  const WarpRow at(problem);
  if (!at.live) return;
  const int64_t first_point = at.global_row * problem.points;
  for (int c = at.lane; c < problem.dim; c += 32) {
    R sum = 0;
    for (int level = 0, point = 0; level < problem.levels; ++level) {
      for (int p = 0; p < problem.per_level; ++p, ++point) {
        const R* xy = loc + 2 * (first_point + point);
        const Footprint<R> f = footprint_of<R>(problem, level, xy[0], xy[1]);
        if (!f.in) continue;
        const R a = attn[first_point + point];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const T v = value[at.value_base + int64_t(f.token[i]) * problem.token_stride + c];
          sum += (f.valid[i] ? a * f.weight[i] : 0) * widen<R>(v);
        }
      }
    }
    out[at.global_row * problem.dim + c] = narrow<T>(sum);
  }
}

template <typename T, typename R, typename Sums>
__global__ __launch_bounds__(kGenericBlock) void generic_backward(
    const __grid_constant__ Problem problem, const T* __restrict__ grad_out, const T* __restrict__ value,
    const R* __restrict__ loc, const R* __restrict__ attn, Sums sums, R* __restrict__ grad_loc,
    R* __restrict__ grad_attn) {
  const WarpRow at(problem);
  if (!at.live) return;
  sums.prepare();
  const int64_t first_point = at.global_row * problem.points;
  for (int level = 0, point = 0; level < problem.levels; ++level) {
    for (int p = 0; p < problem.per_level; ++p, ++point) {
      const R* xy = loc + 2 * (first_point + point);
      const Footprint<R> f = footprint_of<R>(problem, level, xy[0], xy[1]);
      const R a = attn[first_point + point];
      R dot[4] = {};
      if (f.in) {  // the same for the whole warp
        for (int c = at.lane; c < problem.dim; c += 32) {
          const R g = widen<R>(grad_out[at.global_row * problem.dim + c]);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (!f.valid[i]) continue;
            const int64_t place = at.value_base + int64_t(f.token[i]) * problem.token_stride + c;
            dot[i] += g * widen<R>(value[place]);
            if (a * f.weight[i] != 0) sums.add(sums.sums + place, a * f.weight[i] * g);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int other = 16; other > 0; other /= 2) dot[i] += __shfl_xor_sync(kFullMask, dot[i], other);
      }
      if (at.lane == 0) {
        const R along_x = a * problem.w[level] * ((1 - f.fy) * (dot[1] - dot[0]) + f.fy * (dot[3] - dot[2]));
        const R along_y = a * problem.h[level] * ((1 - f.fx) * (dot[2] - dot[0]) + f.fx * (dot[3] - dot[1]));
        grad_loc[2 * (first_point + point)] = f.in ? along_x : 0;
        grad_loc[2 * (first_point + point) + 1] = f.in ? along_y : 0;
        grad_attn[first_point + point] =
            f.weight[0] * dot[0] + f.weight[1] * dot[1] + f.weight[2] * dot[2] + f.weight[3] * dot[3];
      }
    }
  }
}

// Bits of max|x| as a float. Bits of positive floats order as integers do, with NaN above infinity.
template <typename T>
__global__ void absolute_maximum(const T* __restrict__ x, int64_t count, unsigned* bits) {
  unsigned most = 0;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
    // rounded up, so that a double's bound holds too
    most = max(most, __float_as_uint(sizeof(T) == 8 ? __double2float_ru(fabs(widen<double>(x[i])))
                                                    : fabsf(widen<float>(x[i]))));
  for (int other = 16; other > 0; other /= 2) most = max(most, __shfl_xor_sync(kFullMask, most, other));
  if (threadIdx.x % 32 == 0) atomicMax(bits, most);
}

template <typename T, typename R>
__global__ void from_fixed_point(const long long* __restrict__ sums, const unsigned* __restrict__ bounds, double terms,
                                 int64_t count, T* __restrict__ out) {
  int exponent = 0;
  const bool finite = fixed_point_exponent(bounds, terms, &exponent);
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
    out[i] = narrow<T>(finite ? R(ldexp(double(sums[i]), -exponent)) : R(NAN));
}

}  // namespace
