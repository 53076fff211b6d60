// The CPU kernels as operators of a namespace that holds the build's key, through libtorch's stable ABI.
// Two libraries that define one namespace crash in the loader, so no two builds share one.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>
#include <vector>

#include "cpu_api.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

enum Isa : int64_t { kBase, kAvx2, kAvx512 };

int64_t newest_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return kBase;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return wide ? kAvx512 : kAvx2;
#else
  return kBase;
#endif
}

msda::Kernels kernels(int64_t isa) {
  STD_TORCH_CHECK(isa >= kBase && isa <= newest_isa(), "msda: this CPU has no instruction set number ", isa);
#if defined(__x86_64__)
  if (isa == kAvx512) return msda::avx512::kernels();
  if (isa == kAvx2) return msda::avx2::kernels();
#endif
  return msda::base::kernels();
}

msda::Type type_of(const Tensor& value) {
  switch (value.scalar_type()) {
    case ScalarType::Float: return msda::Type::f32;
    case ScalarType::Double: return msda::Type::f64;
    case ScalarType::BFloat16: return msda::Type::bf16;
    case ScalarType::Half: return msda::Type::f16;
    default: STD_TORCH_CHECK(false, "msda: values of this type have no kernel");
  }
}

// Packing a head pays when its points are more than half as many as its tokens. Offsets in vector lanes are 32 bits.
msda::Mode mode_of(const msda::Problem& p) {
  const int64_t points = p.L * p.P;
  if (p.type == msda::Type::f64 || points > msda::kMaxPoints) return msda::Mode::generic;
  if (2 * p.Q * points > p.S && p.S * (p.D + 15) < INT32_MAX) return msda::Mode::pack;
  const bool place = p.type == msda::Type::f32 && p.D % 16 == 0 && p.S * p.H * p.D < INT32_MAX;
  return place ? msda::Mode::place : msda::Mode::generic;
}

msda::Problem problem(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& loc, const Tensor& attn) {
  for (const Tensor* x : {&value, &loc, &attn}) STD_TORCH_CHECK(x->is_contiguous(), "msda: inputs must be contiguous");
  msda::Problem p = {};
  p.type = type_of(value);
  p.N = value.size(0), p.S = value.size(1), p.H = value.size(2), p.D = value.size(3);
  p.Q = loc.size(1), p.L = loc.size(3), p.P = loc.size(4);
  STD_TORCH_CHECK(p.S < INT32_MAX, "msda: a row has ", p.S, " tokens, more than 31 bits count");
  p.shapes = shapes.data();
  p.value = value.const_data_ptr(), p.loc = loc.const_data_ptr(), p.attn = attn.const_data_ptr();
  p.mode = mode_of(p);
  return p;
}

void run(bool (*kernel)(const msda::Problem&, int64_t, int64_t), const msda::Problem& p, int64_t tasks) {
  bool enough = true;
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    if (!kernel(p, begin, end)) enough = false;
  });
  STD_TORCH_CHECK(enough, "msda: no memory for scratch space of ", p.S, " tokens");
}

Tensor forward(Tensor value, std::vector<int64_t> shapes, Tensor loc, Tensor attn, int64_t isa) {
  msda::Problem p = problem(value, shapes, loc, attn);
  Tensor out = torch::stable::new_empty(value, {p.N, p.Q, p.H, p.D});
  if (p.N * p.Q * p.H * p.D == 0) return out;
  p.out = out.mutable_data_ptr();
  const int64_t chunks = p.mode == msda::Mode::pack ? 1 : (p.Q + msda::kQueryChunk - 1) / msda::kQueryChunk;
  run(kernels(isa).forward, p, p.N * p.H * chunks);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(Tensor grad_out, Tensor value, std::vector<int64_t> shapes, Tensor loc,
                                            Tensor attn, int64_t isa) {
  STD_TORCH_CHECK(grad_out.is_contiguous(), "msda: inputs must be contiguous");
  msda::Problem p = problem(value, shapes, loc, attn);
  const bool written = p.mode == msda::Mode::pack && p.N * p.Q * p.H * p.D != 0;
  Tensor grad_value = written ? torch::stable::new_empty(value, {p.N, p.S, p.H, p.D})
                              : torch::stable::new_zeros(value, {p.N, p.S, p.H, p.D});
  Tensor grad_loc = torch::stable::new_empty(loc, {p.N, p.Q, p.H, p.L, p.P, 2});
  Tensor grad_attn = torch::stable::new_empty(attn, {p.N, p.Q, p.H, p.L, p.P});
  p.grad_out = grad_out.const_data_ptr();
  p.grad_value = grad_value.mutable_data_ptr();
  p.grad_loc = grad_loc.mutable_data_ptr();
  p.grad_attn = grad_attn.mutable_data_ptr();
  if (p.N * p.Q * p.H != 0) run(kernels(isa).backward, p, p.N * p.H);
  return {grad_value, grad_loc, grad_attn};
}

}  // namespace

#define MSDA_LIBRARY(ns, m) STABLE_TORCH_LIBRARY(ns, m)
#define MSDA_LIBRARY_IMPL(ns, key, m) STABLE_TORCH_LIBRARY_IMPL(ns, key, m)

MSDA_LIBRARY(REFERTRACK_NS, m) {
  m.def("newest_isa() -> int");
  m.def("msda_forward(Tensor value, int[] shapes, Tensor loc, Tensor attn, int isa) -> Tensor");
  m.def(
      "msda_backward(Tensor grad_out, Tensor value, int[] shapes, Tensor loc, Tensor attn, int isa)"
      " -> (Tensor, Tensor, Tensor)");
}

MSDA_LIBRARY_IMPL(REFERTRACK_NS, CompositeExplicitAutograd, m) { m.impl("newest_isa", TORCH_BOX(&newest_isa)); }

MSDA_LIBRARY_IMPL(REFERTRACK_NS, CPU, m) {
  m.impl("msda_forward", TORCH_BOX(&forward));
  m.impl("msda_backward", TORCH_BOX(&backward));
}
