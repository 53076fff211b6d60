// What the CUDA kernels share: the problem by value, 16-byte channel vectors, and the two ways to sum value gradients.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include <type_traits>

#include "footprint.h"

namespace {

constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kMaxLevels = 32;

// A kernel argument, so that sizes come from the constant bank: no loads, no synchronisation.
struct Problem {
  int levels, per_level, points;  // points = levels * per_level, of one query and head
  int rows, heads, dim;           // rows = queries * heads of one frame
  int token_stride, head_stride;  // of value, in elements
  unsigned reciprocal;            // point * reciprocal >> 16 is the point's level, see `vectorised`
  int64_t frame;                  // elements of one frame of value
  int h[kMaxLevels], w[kMaxLevels], start[kMaxLevels];
};

template <typename R>
__device__ Footprint<R> footprint_of(const Problem& problem, int level, R x, R y) {
  return footprint<R>(x, y, problem.w[level], problem.h[level], problem.start[level]);
}

// 16 bytes of channels to float and back. The conversions are spelled out because a build of torch extensions may
// define the half operators away.
template <typename T>
struct Pack;

template <>
struct Pack<float> {
  static constexpr int kSize = 4;
  static __device__ __forceinline__ void read(uint4 raw, float (&v)[4]) {
    v[0] = __uint_as_float(raw.x), v[1] = __uint_as_float(raw.y);
    v[2] = __uint_as_float(raw.z), v[3] = __uint_as_float(raw.w);
  }
  static __device__ __forceinline__ uint4 write(const float (&v)[4]) {
    return {__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])};
  }
};

template <>
struct Pack<__nv_bfloat16> {
  static constexpr int kSize = 8;
  static __device__ __forceinline__ void read(uint4 raw, float (&v)[8]) {
    const unsigned word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // bfloat16 is the upper half of a float
      v[2 * i] = __uint_as_float(word[i] << 16);
      v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
  }
  static __device__ __forceinline__ uint4 write(const float (&v)[8]) {
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
      word[i] = reinterpret_cast<const unsigned&>(pair);
    }
    return {word[0], word[1], word[2], word[3]};
  }
};

template <>
struct Pack<__half> {
  static constexpr int kSize = 8;
  static __device__ __forceinline__ void read(uint4 raw, float (&v)[8]) {
    const unsigned word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = __half22float2(reinterpret_cast<const __half2&>(word[i]));
      v[2 * i] = pair.x, v[2 * i + 1] = pair.y;
    }
  }
  static __device__ __forceinline__ uint4 write(const float (&v)[8]) {
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __half2 pair = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
      word[i] = reinterpret_cast<const unsigned&>(pair);
    }
    return {word[0], word[1], word[2], word[3]};
  }
};

template <typename R, typename T>
__device__ __forceinline__ R widen(T x) {
  if constexpr (std::is_same_v<T, __half>) return __half2float(x);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>) return __bfloat162float(x);
  else return x;
}

template <typename T, typename R>
__device__ __forceinline__ T narrow(R x) {
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(float(x));
  else if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(float(x));
  else return T(x);
}

// ---- sums of value gradients ----------------------------------------------------------------------------------------

// The instructions are named: through a pointer whose address space the compiler has lost sight of, atomicAdd becomes a
// loop that serves shared memory too.
#define MSDA_REDUCE(form, at, ...)                                                                             \
  asm volatile("red.relaxed.gpu.global.add." form ::"l"(__cvta_generic_to_global(at)), __VA_ARGS__ : "memory")

#ifdef __CUDA_ARCH__
__device__ __forceinline__ void reduce(float* at, float x) { MSDA_REDUCE("f32 [%0], %1;", at, "f"(x)); }
__device__ __forceinline__ void reduce(double* at, double x) { MSDA_REDUCE("f64 [%0], %1;", at, "d"(x)); }
__device__ __forceinline__ void reduce(long long* at, long long x) { MSDA_REDUCE("u64 [%0], %1;", at, "l"(x)); }
#else  // a test runs the kernels on a CPU, one thread at a time
template <typename R>
__device__ void reduce(R* at, R x) {
  *at += x;
}
#endif

// In floating point, by atomics whose order is the hardware's: the last bits differ from run to run.
template <typename R>
struct FloatSums {
  static constexpr int kMinBlocks = 0;  // as many as the compiler thinks best
  R* sums;
  __device__ void prepare() {}
  __device__ __forceinline__ void add(R* at, R x) const { reduce(at, x); }
  __device__ __forceinline__ void add4(float* at, float a, float b, float c, float d) const {
#if __CUDA_ARCH__ >= 900 && MSDA_REDUCTION_WIDTH == 4
    MSDA_REDUCE("v4.f32 [%0], {%1, %2, %3, %4};", at, "f"(a), "f"(b), "f"(c), "f"(d));
#elif __CUDA_ARCH__ >= 900 && MSDA_REDUCTION_WIDTH == 2
    MSDA_REDUCE("v2.f32 [%0], {%1, %2};", at, "f"(a), "f"(b));
    MSDA_REDUCE("v2.f32 [%0], {%1, %2};", at + 2, "f"(c), "f"(d));
#else
    add(at, a), add(at + 1, b), add(at + 2, c), add(at + 3, d);
#endif
  }
};

// bounds = the bits of max|grad_out| and max|attn|, as floats. A token's sum is at most points * queries * their
// product, so times 2^exponent it stays below 2^62. False where the bound is not finite or too large to scale.
__device__ inline bool fixed_point_exponent(const unsigned* bounds, double terms, int* exponent) {
  const double bound = double(__uint_as_float(bounds[0])) * double(__uint_as_float(bounds[1])) * terms;
  if (!(bound < 1e60)) return false;
  *exponent = bound > 1e-60 ? 61 - ilogb(bound) : 0;
  return true;
}

// In 64-bit integers: additions commute exactly, so every run gives the same bits.
template <typename R>
struct FixedSums {
  static constexpr int kMinBlocks = 2;  // at most 128 registers: aiming at 3 blocks, sm_100's compiler spills
  long long* sums;
  const unsigned* bounds;
  double terms;
  double scale;
  __device__ void prepare() {
    int exponent;
    scale = fixed_point_exponent(bounds, terms, &exponent) ? ldexp(1.0, exponent) : 0;
  }
  __device__ __forceinline__ void add(long long* at, R x) const { reduce(at, __double2ll_rn(double(x) * scale)); }
  __device__ __forceinline__ void add4(long long* at, float a, float b, float c, float d) const {
    add(at, a), add(at + 1, b), add(at + 2, c), add(at + 3, d);
  }
};

}  // namespace
