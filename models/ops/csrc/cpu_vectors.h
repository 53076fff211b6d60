// Explicit vectors of VW floats (4, 8 or 16) and the operations that the kernels need, for GCC and clang.
// Included by cpu_isa.cpp in its namespace.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
#define __builtin_shufflevector(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif

typedef float vf __attribute__((vector_size(4 * VW)));
typedef int32_t vi __attribute__((vector_size(4 * VW)));
typedef float vf_anywhere __attribute__((vector_size(4 * VW), aligned(4), may_alias));
typedef int32_t vi_anywhere __attribute__((vector_size(4 * VW), aligned(4), may_alias));

inline vf load(const float* from) { return (vf) * (const vf_anywhere*)from; }
inline vi load(const int32_t* from) { return (vi) * (const vi_anywhere*)from; }
inline void store(float* to, vf x) { *(vf_anywhere*)to = (vf_anywhere)x; }
inline void store(int32_t* to, vi x) { *(vi_anywhere*)to = (vi_anywhere)x; }
inline vf splat(float x) { return x - vf{}; }
inline vf choose(vi mask, vf a, vf b) { return mask ? a : b; }
inline vi choose(vi mask, vi a, vi b) { return mask ? a : b; }

#if VW == 4
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#define FRONT 0, 4, 1, 5
#define BACK 2, 6, 3, 7
#define PAIR_EVEN EVEN
#define PAIR_ODD ODD
#elif VW == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define FRONT 0, 8, 1, 9, 2, 10, 3, 11
#define BACK 4, 12, 5, 13, 6, 14, 7, 15
#define PAIR_EVEN 0, 2, 8, 10, 4, 6, 12, 14
#define PAIR_ODD 1, 3, 9, 11, 5, 7, 13, 15
#else
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FRONT 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define BACK 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define PAIR_EVEN 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define PAIR_ODD 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#endif

// (x0, y0, x1, y1, ...) in a and b to the x and the y, and back
inline vf first_of_pairs(vf a, vf b) { return __builtin_shufflevector(a, b, EVEN); }
inline vf second_of_pairs(vf a, vf b) { return __builtin_shufflevector(a, b, ODD); }
inline vf front_pairs(vf x, vf y) { return __builtin_shufflevector(x, y, FRONT); }
inline vf back_pairs(vf x, vf y) { return __builtin_shufflevector(x, y, BACK); }

// sums of neighbours within each 128-bit lane, a's in the lower half of the lane and b's in the upper
inline vf pair_sums(vf a, vf b) {
  return __builtin_shufflevector(a, b, PAIR_EVEN) + __builtin_shufflevector(a, b, PAIR_ODD);
}

// in each 128-bit lane that lane's sums of four vectors
inline vf lane_sums(const float* rows) {
  return pair_sums(pair_sums(load(rows), load(rows + VW)), pair_sums(load(rows + 2 * VW), load(rows + 3 * VW)));
}

// The sums of VW vectors that lie one after the other. A strict-arithmetic compiler does not vectorise a plain sum.
inline vf row_sums(const float* rows) {
#if VW == 4
  return lane_sums(rows);
#elif VW == 8
  const vf a = lane_sums(rows), b = lane_sums(rows + 4 * VW);
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
#else
  vf half[2];
  for (int i = 0; i < 2; ++i) {
    const vf a = lane_sums(rows + 8 * VW * i), b = lane_sums(rows + (8 * i + 4) * VW);
    half[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  return __builtin_shufflevector(half[0], half[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(half[0], half[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#endif
}
