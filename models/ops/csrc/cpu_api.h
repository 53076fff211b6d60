// What binding.cpp and the three builds of cpu_isa.cpp agree on. No standard header with inline functions may be
// included here: the linker could keep the copy that was compiled for AVX-512 and run it on a CPU without it.
#pragma once

#include <stdint.h>

namespace msda {

enum class Type { f32, f64, bf16, f16 };

// pack: copy a head's values to contiguous float32 and sample there. place: sample float32 where it lies, for few
// queries. generic: any type, channel count and number of points, without explicit vectors.
enum class Mode { pack, place, generic };

constexpr int kMaxPoints = 64;       // levels * points that the vector kernels hold on the stack
constexpr int64_t kQueryChunk = 256;  // queries of one forward task, where a head is not packed

// All arrays are contiguous. loc, attn and their gradients are double for f64 and else float.
struct Problem {
  Type type;
  Mode mode;
  int64_t N, S, Q, H, D, L, P;
  const int64_t* shapes;   // h0, w0, h1, w1, ...
  const void* value;       // [N, S, H, D]
  const void* loc;         // [N, Q, H, L, P, 2]
  const void* attn;        // [N, Q, H, L, P]
  void* out;               // [N, Q, H, D], forward only
  const void* grad_out;    // the rest backward only
  void* grad_value;        // zeros, except in pack mode
  void* grad_loc;
  void* grad_attn;
};

// Tasks [begin, end): backward one (n, h) each; forward the same in pack mode, else kQueryChunk queries of one (n, h).
// A task writes what no other task touches. False when there is no memory for scratch space.
struct Kernels {
  bool (*forward)(const Problem&, int64_t begin, int64_t end);
  bool (*backward)(const Problem&, int64_t begin, int64_t end);
};

namespace base {
Kernels kernels();
}
namespace avx2 {
Kernels kernels();
}
namespace avx512 {
Kernels kernels();
}

}  // namespace msda
