// CUDA deformable attention behind torch's stable ABI: one library for torch 2.11 and newer.
//
// Registers, in the namespace REFERTRACK_NS:
//   msda_forward(Tensor value, int[] shapes, Tensor loc, Tensor attn) -> Tensor
//   msda_backward(Tensor grad_out, Tensor value, int[] shapes, Tensor loc, Tensor attn, bool deterministic)
//       -> (Tensor, Tensor, Tensor)
// Inputs were checked and made contiguous in Python: value [N,S,H,D], shapes (h0, w0, h1, w1, ...),
// loc [N,Q,H,L,P,2] and attn [N,Q,H,L,P] float32 (float64 with float64 values).

#ifndef MSDA_BLOCK
#define MSDA_BLOCK 256  // threads of a block
#endif
#ifndef MSDA_MIN_BLOCKS
#define MSDA_MIN_BLOCKS 4  // of the forward on a multiprocessor: at most 64 registers a thread
#endif
#ifndef MSDA_REDUCTION_WIDTH
#define MSDA_REDUCTION_WIDTH 4  // floats of one value gradient reduction, on sm_90 and newer
#endif
#ifndef MSDA_MAX_FRAMES
#define MSDA_MAX_FRAMES 65535  // of one launch: the limit of gridDim.y
#endif
#ifndef MSDA_KEY
#define MSDA_KEY CUDA  // a test that emulates the kernels registers them for the CPU
#endif

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cuda_common.cuh"
#include "cuda_generic.cuh"
#include "cuda_launch.cuh"
#include "cuda_vector.cuh"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMaxFrames = MSDA_MAX_FRAMES;
constexpr int kWarpsPerProcessor = 8;  // fewer hide too little latency: then several groups share a row

Problem describe(const Tensor& value, const std::vector<int64_t>& shapes, const Tensor& loc) {
  Problem problem{};
  problem.levels = int(loc.size(3)), problem.per_level = int(loc.size(4));
  STD_TORCH_CHECK(problem.levels <= kMaxLevels, "deformable attention on CUDA takes at most ", kMaxLevels,
                  " levels, not ", problem.levels, "; set REFERTRACK_OPS=pytorch for more");
  const int64_t rows = loc.size(1) * loc.size(2);
  STD_TORCH_CHECK(rows < (int64_t(1) << 31) - MSDA_BLOCK && value.size(1) < (int64_t(1) << 31),
                  "deformable attention on CUDA: one frame has ", rows, " queries times heads and ", value.size(1),
                  " tokens; 2^31 is the limit");
  problem.points = problem.levels * problem.per_level;
  problem.heads = int(loc.size(2)), problem.dim = int(value.size(3));
  problem.rows = int(rows);
#ifdef MSDA_HEAD_MAJOR  // a benchmark's layout trial: value and its gradient as [N,H,S,D]
  problem.token_stride = problem.dim, problem.head_stride = int(value.size(2)) * problem.dim;
#else
  problem.token_stride = problem.heads * problem.dim, problem.head_stride = problem.dim;
#endif
  problem.frame = value.size(1) * value.size(2) * value.size(3);
  problem.reciprocal = 65536u / unsigned(problem.per_level > 0 ? problem.per_level : 1) + 1;
  int start = 0;
  for (int level = 0; level < problem.levels; ++level) {
    problem.h[level] = int(shapes[2 * level]), problem.w[level] = int(shapes[2 * level + 1]);
    problem.start[level] = start;
    start += problem.h[level] * problem.w[level];
  }
  return problem;
}

bool aligned(const Tensor& tensor, size_t bytes) { return reinterpret_cast<uintptr_t>(tensor.data_ptr()) % bytes == 0; }

template <typename T>
bool vectorised(const Problem& problem, const Tensor& value, const Tensor& other, const Tensor& loc) {
  const bool size = problem.dim == 16 || problem.dim == 32 || problem.dim == 64;
  return size && problem.frame < (int64_t(1) << 31) && int64_t(problem.points) * problem.per_level < 65536 &&
         aligned(value, 16) && aligned(other, 16) && aligned(loc, 8);
}

unsigned ceil_div(int64_t a, int64_t b) { return unsigned((a + b - 1) / b); }

// Calls run(D, SPLIT): one group of lanes for a row, or as many as a warp has where the rows alone are too few.
template <typename T, int D, typename F>
void with_split(const Problem& problem, int64_t N, const OnDevice& device, const F& run) {
  constexpr int G = D / Pack<T>::kSize;
  if (N * problem.rows * G < int64_t(device.processors) * kWarpsPerProcessor * 32)
    run(std::integral_constant<int, D>{}, std::integral_constant<int, 32 / G>{});
  else
    run(std::integral_constant<int, D>{}, std::integral_constant<int, 1>{});
}

template <typename T, typename F>
void with_channels(const Problem& problem, int64_t N, const OnDevice& device, const F& run) {
  if (problem.dim == 32) return with_split<T, 32>(problem, N, device, run);
#ifdef MSDA_SWEEP  // a benchmark builds many variants of the size it measures
  STD_TORCH_CHECK(false, "this is a benchmark's build, for 32 channels");
#else
  if (problem.dim == 16) return with_split<T, 16>(problem, N, device, run);
  if (problem.dim == 64) return with_split<T, 64>(problem, N, device, run);
#endif
}

// Calls run(first frame, frames) for as many launches as the grid's second axis needs.
template <typename F>
void over_frames(int64_t N, const F& run) {
  for (int64_t first = 0; first < N; first += kMaxFrames) run(first, unsigned(std::min(kMaxFrames, N - first)));
}

template <typename T>
T* pointer(const Tensor& tensor, int64_t offset = 0) {
  return static_cast<T*>(tensor.data_ptr()) + offset;
}

template <typename T, typename R>
void run_forward(const Problem& problem, const OnDevice& device, const Tensor& value, const Tensor& loc,
                 const Tensor& attn, const Tensor& out) {
  const int64_t N = loc.size(0), points = int64_t(problem.rows) * problem.points;  // points of one frame
  const int64_t channels = int64_t(problem.rows) * problem.dim;
  if constexpr (std::is_same_v<R, float>) {
    if (vectorised<T>(problem, value, out, loc)) {
      with_channels<T>(problem, N, device, [&](auto dim, auto split) {
        constexpr int D = decltype(dim)::value, Split = decltype(split)::value;
        over_frames(N, [&](int64_t n, unsigned frames) {
          const dim3 grid(ceil_div(problem.rows, MSDA_BLOCK / (D / Pack<T>::kSize * Split)), frames);
          start("forward", vector_forward<T, D, Split>, grid, MSDA_BLOCK, device, problem,
                pointer<T>(value, n * problem.frame), pointer<float2>(loc, n * points),
                pointer<float>(attn, n * points), pointer<T>(out, n * channels));
        });
      });
      return;
    }
  }
  over_frames(N, [&](int64_t n, unsigned frames) {
    const dim3 grid(ceil_div(problem.rows, kGenericBlock / 32), frames);
    start("generic forward", generic_forward<T, R>, grid, kGenericBlock, device, problem,
          pointer<T>(value, n * problem.frame), pointer<R>(loc, 2 * n * points), pointer<R>(attn, n * points),
          pointer<T>(out, n * channels));
  });
}

template <typename T, typename R, typename Sums>
void run_backward(const Problem& problem, const OnDevice& device, const Tensor& grad_out, const Tensor& value,
                  const Tensor& loc, const Tensor& attn, Sums sums, const Tensor& grad_loc, const Tensor& grad_attn) {
  const int64_t N = loc.size(0), points = int64_t(problem.rows) * problem.points;  // points of one frame
  const int64_t channels = int64_t(problem.rows) * problem.dim;
  const auto from_frame = [&](int64_t n) {
    Sums moved = sums;
    moved.sums += n * problem.frame;
    return moved;
  };
  if constexpr (std::is_same_v<R, float>) {
    if (vectorised<T>(problem, value, grad_out, loc)) {
      with_channels<T>(problem, N, device, [&](auto dim, auto split) {
        constexpr int D = decltype(dim)::value, Split = decltype(split)::value;
        over_frames(N, [&](int64_t n, unsigned frames) {
          const dim3 grid(ceil_div(problem.rows, MSDA_BLOCK / (D / Pack<T>::kSize * Split)), frames);
          start("backward", vector_backward<T, D, Split, Sums>, grid, MSDA_BLOCK, device, problem,
                pointer<T>(grad_out, n * channels), pointer<T>(value, n * problem.frame),
                pointer<float2>(loc, n * points), pointer<float>(attn, n * points), from_frame(n),
                pointer<float2>(grad_loc, n * points), pointer<float>(grad_attn, n * points));
        });
      });
      return;
    }
  }
  over_frames(N, [&](int64_t n, unsigned frames) {
    const dim3 grid(ceil_div(problem.rows, kGenericBlock / 32), frames);
    start("generic backward", generic_backward<T, R, Sums>, grid, kGenericBlock, device, problem,
          pointer<T>(grad_out, n * channels), pointer<T>(value, n * problem.frame), pointer<R>(loc, 2 * n * points),
          pointer<R>(attn, n * points), from_frame(n), pointer<R>(grad_loc, 2 * n * points),
          pointer<R>(grad_attn, n * points));
  });
}

template <typename F>
void with_type(ScalarType type, const F& run) {
  switch (type) {
    case ScalarType::Float: return run(float{});
    case ScalarType::BFloat16: return run(__nv_bfloat16{});
    case ScalarType::Half: return run(__half{});
#ifndef MSDA_SWEEP
    case ScalarType::Double: return run(double{});
#endif
    default: STD_TORCH_CHECK(false, "deformable attention on CUDA takes float, bfloat16, half and double values");
  }
}

template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

Tensor forward(Tensor value, std::vector<int64_t> shapes, Tensor loc, Tensor attn) {
  Tensor out = torch::stable::new_empty(value, {loc.size(0), loc.size(1), loc.size(2), value.size(3)});
  if (out.numel() == 0) return out;
  const OnDevice device(value);
  const Problem problem = describe(value, shapes, loc);
  with_type(value.scalar_type(), [&](auto element) {
    using T = decltype(element);
    run_forward<T, Sum<T>>(problem, device, value, loc, attn, out);
  });
  return out;
}

std::vector<int64_t> sizes_of(const Tensor& tensor) {
  std::vector<int64_t> sizes;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) sizes.push_back(tensor.size(axis));
  return sizes;
}

template <typename T>
void find_bound(const Tensor& x, unsigned* bits, const OnDevice& device) {
  const unsigned blocks = std::min<unsigned>(ceil_div(x.numel(), 256), unsigned(device.processors) * 8);
  start("maximum", absolute_maximum<T>, blocks, 256, device, pointer<T>(x), x.numel(), bits);
}

std::tuple<Tensor, Tensor, Tensor> backward(Tensor grad_out, Tensor value, std::vector<int64_t> shapes, Tensor loc,
                                            Tensor attn, bool deterministic) {
  const std::vector<int64_t> sizes = sizes_of(value);
  if (grad_out.numel() == 0 || attn.numel() == 0)
    return {torch::stable::new_zeros(value, sizes), torch::stable::new_zeros(loc, sizes_of(loc)),
            torch::stable::new_zeros(attn, sizes_of(attn))};
  Tensor grad_loc = torch::stable::empty_like(loc), grad_attn = torch::stable::empty_like(attn), grad_value;
  const OnDevice device(value);
  const Problem problem = describe(value, shapes, loc);
  with_type(value.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using R = Sum<T>;
    if (!deterministic) {
      Tensor sums = torch::stable::new_zeros(value, sizes, loc.scalar_type());
      run_backward<T, R>(problem, device, grad_out, value, loc, attn, FloatSums<R>{pointer<R>(sums)}, grad_loc,
                         grad_attn);
      grad_value = std::is_same_v<T, R> ? sums : torch::stable::to(sums, value.scalar_type());
      return;
    }
    const double terms = double(loc.size(1)) * problem.points;
    const Tensor sums = torch::stable::new_zeros(value, sizes, ScalarType::Long);
    const Tensor bounds = torch::stable::new_zeros(value, {2}, ScalarType::Int);
    find_bound<T>(grad_out, pointer<unsigned>(bounds), device);
    find_bound<R>(attn, pointer<unsigned>(bounds) + 1, device);
    run_backward<T, R>(problem, device, grad_out, value, loc, attn,
                       FixedSums<R>{pointer<long long>(sums), pointer<unsigned>(bounds), terms, 0}, grad_loc,
                       grad_attn);
    grad_value = torch::stable::new_empty(value, sizes);
    const unsigned blocks = std::min<unsigned>(ceil_div(value.numel(), 256), unsigned(device.processors) * 16);
    start("rescaling", from_fixed_point<T, R>, blocks, 256, device, pointer<long long>(sums), pointer<unsigned>(bounds),
          terms, value.numel(), pointer<T>(grad_value));
  });
  return {grad_value, grad_loc, grad_attn};
}

}  // namespace

// The macros turn their argument into text, so a name that is itself a macro has to be expanded first.
#define MSDA_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
#define MSDA_LIBRARY_IMPL(name, key, m) STABLE_TORCH_LIBRARY_IMPL(name, key, m)

MSDA_LIBRARY(REFERTRACK_NS, m) {
  m.def("msda_forward(Tensor value, int[] shapes, Tensor loc, Tensor attn) -> Tensor");
  m.def(
      "msda_backward(Tensor grad_out, Tensor value, int[] shapes, Tensor loc, Tensor attn, bool deterministic)"
      " -> (Tensor, Tensor, Tensor)");
}

MSDA_LIBRARY_IMPL(REFERTRACK_NS, MSDA_KEY, m) {
  m.impl("msda_forward", TORCH_BOX(&forward));
  m.impl("msda_backward", TORCH_BOX(&backward));
}
