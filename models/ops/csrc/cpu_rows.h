// Rows of channels between their stored type and float32 (float64): included by cpu_isa.cpp in its namespace.
#pragma once

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// what a stored type is summed in
template <class T>
struct Sum {
  using type = float;
};
template <>
struct Sum<double> {
  using type = double;
};

inline float as_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

inline uint32_t as_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(BFloat16 x) { return as_float(uint32_t(x.bits) << 16); }
inline float widen(Half x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = uint32_t(x.bits & 0x7fff) << 13;
  // moves the exponent from half's bias to float's, denormals included; infinity and NaN need the largest exponent
  const uint32_t finite = as_bits(as_float(magnitude) * as_float(0x77800000));
  return as_float(sign | ((x.bits & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : finite));
}

// round to nearest, ties to even
inline void narrow(float x, float* to) { *to = x; }
inline void narrow(double x, double* to) { *to = x; }
inline void narrow(float x, BFloat16* to) {
  const uint32_t bits = as_bits(x), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  to->bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}
inline void narrow(float x, Half* to) {
  const uint32_t bits = as_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  const uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  // adding 1/2 leaves the bits of a denormal half in the low end, rounded
  const uint32_t denormal = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000;
  const uint32_t large = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  const uint32_t small = magnitude < (113u << 23) ? denormal : normal;
  to->bits = uint16_t(sign | (magnitude >= (143u << 23) ? large : small));
}

template <class T, class A>
void load_row(const T* from, A* to, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) to[c] = widen(from[c]);
}

template <class T, class A>
void store_row(const A* from, T* to, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) narrow(from[c], to + c);
}
