// The CPU kernels of one instruction set. Built three times, with MSDA_ISA = base, avx2, avx512 and that set's flags.
//
// Flags and not `#pragma GCC target`, which clang ignores without a word; everything is in a namespace of its own and
// without linkage, so that no function compiled for a newer set can stand in for an older one's.
#include "cpu_api.h"

#include <stddef.h>

#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX2__)
#define VW 8
#else
#define VW 4
#endif

extern "C" void* aligned_alloc(size_t, size_t);
extern "C" void free(void*);

namespace msda {
namespace MSDA_ISA {
namespace {

#include "cpu_rows.h"

#include "cpu_generic.h"
#include "cpu_kernels.h"

// Memory for the length of a scope; `data` is null when there was none.
struct Scratch {
  float* data;
  explicit Scratch(int64_t bytes) : data((float*)aligned_alloc(64, size_t(bytes + 127) / 64 * 64)) {}
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

template <class T>
void pack(const Problem& p, int64_t n, int64_t h, float* to, int64_t width) {
  const T* from = (const T*)p.value + (n * p.S * p.H + h) * p.D;
  for (int64_t s = 0; s < p.S; ++s, from += p.H * p.D, to += width) {
    load_row(from, to, p.D);
    for (int64_t c = p.D; c < width; ++c) to[c] = 0;
  }
}

template <class T>
void unpack(const Problem& p, int64_t n, int64_t h, const float* from, int64_t width) {
  T* to = (T*)p.grad_value + (n * p.S * p.H + h) * p.D;
  for (int64_t s = 0; s < p.S; ++s, to += p.H * p.D, from += width) store_row(from, to, p.D);
}

// NV: how many vectors of channels the inner loops hold in registers; it divides the head's vectors.
template <class T>
void forward_head(const Problem& p, const Points& points, const Head& head, int64_t first, int64_t last) {
  if (VW < 16 && head.vectors % 8 == 0) return forward_queries<VW < 16 ? 8 : 4, T>(p, points, head, first, last);
  if (head.vectors % 4 == 0) return forward_queries<4, T>(p, points, head, first, last);
  if (head.vectors % 2 == 0) return forward_queries<2, T>(p, points, head, first, last);
  forward_queries<1, T>(p, points, head, first, last);
}

template <class T>
void backward_head(const Problem& p, const Points& points, const Head& head) {
  if (VW < 16 && head.vectors % 8 == 0) return backward_queries<VW < 16 ? 8 : 4, T>(p, points, head);
  if (head.vectors % 4 == 0) return backward_queries<4, T>(p, points, head);
  if (head.vectors % 2 == 0) return backward_queries<2, T>(p, points, head);
  backward_queries<1, T>(p, points, head);
}

template <class T>
bool forward_packed(const Problem& p, int64_t begin, int64_t end) {
  const Points points = points_of(p);
  const int64_t width = (p.D + VW - 1) / VW * VW;
  const Scratch scratch((p.S + 1) * width * 4);
  if (!scratch.data) return false;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / p.H, h = task % p.H;
    pack<T>(p, n, h, scratch.data, width);
    const Head head = {scratch.data, nullptr, int32_t(width), int(width / VW), scratch.data + p.S * width, n, h};
    forward_head<T>(p, points, head, 0, p.Q);
  }
  return true;
}

template <class T>
bool backward_packed(const Problem& p, int64_t begin, int64_t end) {
  const Points points = points_of(p);
  const int64_t width = (p.D + VW - 1) / VW * VW, size = p.S * width;
  const Scratch scratch((2 * size + width) * 4);
  if (!scratch.data) return false;
  float *grads = scratch.data + size, *row = grads + size;
  __builtin_memset(row, 0, width * 4);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / p.H, h = task % p.H;
    pack<T>(p, n, h, scratch.data, width);
    __builtin_memset(grads, 0, size * 4);
    backward_head<T>(p, points, {scratch.data, grads, int32_t(width), int(width / VW), row, n, h});
    unpack<T>(p, n, h, grads, width);
  }
  return true;
}

Head in_place(const Problem& p, int64_t n, int64_t h) {
  const int64_t at = (n * p.S * p.H + h) * p.D;
  float* grads = p.grad_value ? (float*)p.grad_value + at : nullptr;
  return {(const float*)p.value + at, grads, int32_t(p.H * p.D), int(p.D / VW), nullptr, n, h};
}

Task chunk(const Problem& p, int64_t task) {
  const int64_t chunks = (p.Q + kQueryChunk - 1) / kQueryChunk, head = task / chunks;
  const int64_t first = task % chunks * kQueryChunk, last = first + kQueryChunk;
  return {head / p.H, head % p.H, first, last < p.Q ? last : p.Q};
}

bool forward_placed(const Problem& p, int64_t begin, int64_t end) {
  const Points points = points_of(p);
  for (int64_t i = begin; i < end; ++i) {
    const Task task = chunk(p, i);
    forward_head<float>(p, points, in_place(p, task.n, task.h), task.first, task.last);
  }
  return true;
}

bool backward_placed(const Problem& p, int64_t begin, int64_t end) {
  const Points points = points_of(p);
  for (int64_t i = begin; i < end; ++i) backward_head<float>(p, points, in_place(p, i / p.H, i % p.H));
  return true;
}

template <class T>
bool forward_any(const Problem& p, int64_t begin, int64_t end) {
  using A = typename Sum<T>::type;
  const Scratch row(p.D * sizeof(A));
  if (!row.data) return false;
  for (int64_t i = begin; i < end; ++i) forward_generic<T>(p, chunk(p, i), (A*)row.data);
  return true;
}

// float and double sum in the output itself; half types in scratch, rounded once at the end
template <class T>
bool backward_any(const Problem& p, int64_t begin, int64_t end) {
  using A = typename Sum<T>::type;
  constexpr bool narrow = sizeof(A) != sizeof(T);
  const Scratch scratch(((narrow ? p.S : 0) + 1) * p.D * sizeof(A));
  if (!scratch.data) return false;
  A *g = (A*)scratch.data, *sums = g + p.D;
  for (int64_t i = begin; i < end; ++i) {
    const Task task = {i / p.H, i % p.H, 0, p.Q};
    if (!narrow) {
      A* grads = (A*)p.grad_value + (task.n * p.S * p.H + task.h) * p.D;
      backward_generic<T>(p, task, grads, p.H * p.D, g);
      continue;
    }
    __builtin_memset(sums, 0, p.S * p.D * sizeof(A));
    backward_generic<T>(p, task, sums, p.D, g);
    T* to = (T*)p.grad_value + (task.n * p.S * p.H + task.h) * p.D;
    for (int64_t s = 0; s < p.S; ++s) store_row(sums + s * p.D, to + s * p.H * p.D, p.D);
  }
  return true;
}

bool forward(const Problem& p, int64_t begin, int64_t end) {
  if (p.mode == Mode::place) return forward_placed(p, begin, end);
  const bool packed = p.mode == Mode::pack;
  switch (p.type) {
    case Type::f32: return packed ? forward_packed<float>(p, begin, end) : forward_any<float>(p, begin, end);
    case Type::bf16: return packed ? forward_packed<BFloat16>(p, begin, end) : forward_any<BFloat16>(p, begin, end);
    case Type::f16: return packed ? forward_packed<Half>(p, begin, end) : forward_any<Half>(p, begin, end);
    default: return forward_any<double>(p, begin, end);
  }
}

bool backward(const Problem& p, int64_t begin, int64_t end) {
  if (p.mode == Mode::place) return backward_placed(p, begin, end);
  const bool packed = p.mode == Mode::pack;
  switch (p.type) {
    case Type::f32: return packed ? backward_packed<float>(p, begin, end) : backward_any<float>(p, begin, end);
    case Type::bf16: return packed ? backward_packed<BFloat16>(p, begin, end) : backward_any<BFloat16>(p, begin, end);
    case Type::f16: return packed ? backward_packed<Half>(p, begin, end) : backward_any<Half>(p, begin, end);
    default: return backward_any<double>(p, begin, end);
  }
}

}  // namespace

Kernels kernels() { return {forward, backward}; }

}  // namespace MSDA_ISA
}  // namespace msda
