// Forward and backward for D = 16, 32 or 64 channels and 16-byte aligned tensors.
//
// G = D * sizeof(T) / 16 lanes own one row (n, q, h) and hold 16 bytes of its channels each. In every round the lane j
// works out the footprint of point j alone; the others learn it by shuffles, and every corner is one 16-byte load.
// SPLIT > 1 gives a row SPLIT such groups, which share its points: for a decoder's few queries. Shuffles name the full
// warp: rows past the end repeat the last one and only their stores are dropped. A computed lane mask costs twice the
// instructions.
#pragma once

#include "cuda_common.cuh"

namespace {

// What a lane tells the others about its point.
struct Sample {
  float w[4];  // attn * bilinear weight
  int place;   // element offset of the first corner | 1 where the next column exists; -1: the point does not count
  int across;  // from there to the last corner; strides are multiples of 16, so bit 0 is free
};

__device__ __forceinline__ Sample sample_of(const Footprint<float>& f, float a, bool counts, int stride) {
  Sample s;
#pragma unroll
  for (int i = 0; i < 4; ++i) s.w[i] = f.valid[i] ? a * f.weight[i] : 0;
  s.place = counts ? f.token[0] * stride | int(f.token[1] != f.token[0]) : -1;
  s.across = (f.token[3] - f.token[0]) * stride;
  return s;
}

template <int G>
__device__ __forceinline__ Sample from_lane(const Sample& s, int lane) {
  Sample r;
#pragma unroll
  for (int i = 0; i < 4; ++i) r.w[i] = __shfl_sync(kFullMask, s.w[i], lane, G);
  r.place = __shfl_sync(kFullMask, s.place, lane, G);
  r.across = __shfl_sync(kFullMask, s.across, lane, G);
  return r;
}

__device__ __forceinline__ void corners(const Sample& s, int stride, unsigned (&offset)[4]) {
  const unsigned right = s.place & 1 ? stride : 0;
  offset[0] = s.place & ~1;
  offset[1] = offset[0] + right;
  offset[3] = offset[0] + s.across;
  offset[2] = offset[3] - right;
}

// base + offset. Left to itself the compiler shares parts of the four 64-bit sums of a point and spends up to a tenth
// more instructions.
template <typename T>
__device__ __forceinline__ T* advanced(T* base, unsigned offset) {
#ifdef __CUDA_ARCH__
  T* moved;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(moved) : "r"(offset), "n"(sizeof(T)), "l"(base));
  return moved;
#else
  return base + offset;
#endif
}

template <typename T>
__device__ __forceinline__ uint4 load_channels(const T* at) {
  return __ldg(reinterpret_cast<const uint4*>(at));
}

// The channels of a point's four corners, all asked for before any is used, and their offsets from base.
template <typename T>
__device__ __forceinline__ void load_corners(const T* base, const Sample& s, int stride, unsigned (&offset)[4],
                                             uint4 (&raw)[4]) {
  corners(s, stride, offset);
#pragma unroll
  for (int i = 0; i < 4; ++i) raw[i] = load_channels(advanced(base, offset[i]));
}

// Where this thread is: its row, its lane in the group, its group's number within the row.
template <int G, int SPLIT>
struct Position {
  int lane, group, row, head;
  bool live;
  int64_t global_row, value_base;
  __device__ Position(const Problem& problem, int channels) {
    lane = threadIdx.x % G;
    group = threadIdx.x / G % SPLIT;
    const unsigned wanted = blockIdx.x * (MSDA_BLOCK / (G * SPLIT)) + threadIdx.x / (G * SPLIT);
    live = wanted < unsigned(problem.rows);
    row = min(wanted, unsigned(problem.rows - 1));
    head = row % problem.heads;
    global_row = int64_t(blockIdx.y) * problem.rows + row;
    value_base = int64_t(blockIdx.y) * problem.frame + head * problem.head_stride + lane * channels;
  }
};

__device__ __forceinline__ Footprint<float> own_footprint(const Problem& problem, const float2* loc, const float* attn,
                                                          int point, float* a) {
  const bool exists = point < problem.points;
  const float2 at = exists ? __ldg(loc + point) : make_float2(-2.f, -2.f);
  *a = exists ? __ldg(attn + point) : 0;
  const int level = exists ? int(point * problem.reciprocal >> 16) : 0;
  return footprint_of<float>(problem, level, at.x, at.y);
}

template <typename T, int D, int SPLIT>
__global__ __launch_bounds__(MSDA_BLOCK, MSDA_MIN_BLOCKS) void vector_forward(
    const __grid_constant__ Problem problem, const T* __restrict__ value, const float2* __restrict__ loc,
    const float* __restrict__ attn, T* __restrict__ out) {
  constexpr int V = Pack<T>::kSize, G = D / V;
  const Position<G, SPLIT> at(problem, V);
  const T* base = value + at.value_base;
  const int64_t first_point = at.global_row * problem.points;
  const int count = (problem.points + SPLIT - 1) / SPLIT;
  float sums[V] = {};
  for (int first = 0; first < count; first += G) {
    float a;
    const int point = (first + at.lane) * SPLIT + at.group;
    const Footprint<float> f = own_footprint(problem, loc + first_point, attn + first_point, point, &a);
    const Sample mine = sample_of(f, a, f.in, problem.token_stride);
#pragma unroll
    for (int k = 0; k < G; ++k) {
      if (SPLIT > 1 && first + k >= count) break;
      const Sample s = from_lane<G>(mine, k);
      // Multiplying a point off the map by zero would let its clamped token's NaN through.
      if (s.place >= 0) {
        unsigned offset[4];
        uint4 raw[4];
        load_corners(base, s, problem.token_stride, offset, raw);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float v[V];
          Pack<T>::read(raw[i], v);
#pragma unroll
          for (int c = 0; c < V; ++c) sums[c] += s.w[i] * v[c];
        }
      }
    }
  }
#pragma unroll
  for (int other = G; other < G * SPLIT; other *= 2) {
#pragma unroll
    for (int c = 0; c < V; ++c) sums[c] += __shfl_xor_sync(kFullMask, sums[c], other);
  }
  if (at.live && at.group == 0)
    *reinterpret_cast<uint4*>(out + at.global_row * D + at.lane * V) = Pack<T>::write(sums);
}

// Four dot products of each of N points, summed over N lanes: lane j ends with those of point j. A tree that swaps
// halves needs N - 1 shuffles where a sum for all lanes needs N * log2(N).
template <int N, typename Leaf>
__device__ __forceinline__ float4 transposed_sums(const Leaf& leaf, int k, int lane) {
  if constexpr (N == 1) {
    return leaf(k);
  } else {
    const float4 a = transposed_sums<N / 2>(leaf, k, lane), b = transposed_sums<N / 2>(leaf, k + N / 2, lane);
    const bool upper = lane & (N / 2);
    const auto swap = [upper](float x, float y) {
      return (upper ? y : x) + __shfl_xor_sync(kFullMask, upper ? x : y, N / 2);
    };
    return make_float4(swap(a.x, b.x), swap(a.y, b.y), swap(a.z, b.z), swap(a.w, b.w));
  }
}

template <typename T, int D, int SPLIT, typename Sums>
__global__ __launch_bounds__(MSDA_BLOCK, Sums::kMinBlocks) void vector_backward(
    const __grid_constant__ Problem problem, const T* __restrict__ grad_out, const T* __restrict__ value,
    const float2* __restrict__ loc, const float* __restrict__ attn, Sums sums, float2* __restrict__ grad_loc,
    float* __restrict__ grad_attn) {
  constexpr int V = Pack<T>::kSize, G = D / V;
  const Position<G, SPLIT> at(problem, V);
  const T* base = value + at.value_base;
  const int64_t first_point = at.global_row * problem.points;
  const int count = (problem.points + SPLIT - 1) / SPLIT;
  sums.prepare();
  sums.sums += at.value_base;
  float g[V];
  Pack<T>::read(load_channels(grad_out + at.global_row * D + at.lane * V), g);
  for (int first = 0; first < count; first += G) {
    const int point = (first + at.lane) * SPLIT + at.group;
    float a;
    const Footprint<float> f = own_footprint(problem, loc + first_point, attn + first_point, point, &a);
    const Sample mine = sample_of(f, a, f.in && at.live, problem.token_stride);
    const auto dots_of = [&](int k) {
      const Sample s = from_lane<G>(mine, k);
      float dot[4] = {};
      if (s.place >= 0) {
        unsigned offset[4];
        uint4 raw[4];
        load_corners(base, s, problem.token_stride, offset, raw);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float v[V];
          Pack<T>::read(raw[i], v);
#pragma unroll
          for (int c = 0; c < V; ++c) dot[i] += g[c] * v[c];
          const float w = s.w[i];
          if (w != 0) {
            auto* place = advanced(sums.sums, offset[i]);
#pragma unroll
            for (int c = 0; c < V; c += 4)
              sums.add4(place + c, w * g[c], w * g[c + 1], w * g[c + 2], w * g[c + 3]);
          }
        }
      }
      return make_float4(dot[0], dot[1], dot[2], dot[3]);
    };
    const float4 dots = transposed_sums<G>(dots_of, 0, at.lane);
    if (at.live && point < problem.points) {
      const float d0 = f.valid[0] ? dots.x : 0, d1 = f.valid[1] ? dots.y : 0;
      const float d2 = f.valid[2] ? dots.z : 0, d3 = f.valid[3] ? dots.w : 0;
      const int level = int(point * problem.reciprocal >> 16);
      const float along_x = a * problem.w[level] * ((1 - f.fy) * (d1 - d0) + f.fy * (d3 - d2));
      const float along_y = a * problem.h[level] * ((1 - f.fx) * (d2 - d0) + f.fx * (d3 - d1));
      grad_loc[first_point + point] = f.in ? make_float2(along_x, along_y) : make_float2(0, 0);
      grad_attn[first_point + point] = f.weight[0] * d0 + f.weight[1] * d1 + f.weight[2] * d2 + f.weight[3] * d3;
    }
  }
}

}  // namespace
