// Runs CUDA kernels on a CPU, slowly, so that their arithmetic and indexing can be tested without a GPU.
//
// g++ compiles msda.cu after this header (g++ -x c++ -include cuda_emulator.h). Blocks and warps run one after another;
// the 32 lanes of a warp are coroutines that take turns and meet at every shuffle. A shuffle that not all lanes of the
// warp reach aborts: on a GPU that would be undefined. Lanes never run at once, so races are not found.
#pragma once
#define MSDA_LAUNCH
#define __launch_bounds__(...)

#include <cuda_runtime.h>
#include <torch/csrc/stable/tensor.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#undef __shared__
#define __shared__ static  // of the one block that runs

static uint3 threadIdx, blockIdx;
static dim3 gridDim, blockDim;
using std::max;
using std::min;

namespace emulator {

constexpr int kLanes = 32, kStack = 1 << 16;

struct Warp {
  ucontext_t scheduler, lane[kLanes];
  std::vector<char> stack = std::vector<char>(kLanes * kStack);
  uint64_t sent[2][kLanes];  // two buffers: a lane may send again before the others have read
  int shuffles[kLanes];
  bool done[kLanes];
  int current;
  std::function<void()> kernel;
};
static Warp warp;

static void lane_body() {
  warp.kernel();
  warp.done[warp.current] = true;
}

static void run_warp(unsigned first_thread) {
  for (int i = 0; i < kLanes; ++i) {
    warp.shuffles[i] = 0, warp.done[i] = false;
    getcontext(&warp.lane[i]);
    warp.lane[i].uc_stack = {warp.stack.data() + i * kStack, 0, kStack};
    warp.lane[i].uc_link = &warp.scheduler;
    makecontext(&warp.lane[i], lane_body, 0);
  }
  while (!warp.done[0]) {
    for (int i = 0; i < kLanes; ++i) {
      warp.current = i;
      threadIdx.x = first_thread + i;
      swapcontext(&warp.scheduler, &warp.lane[i]);
    }
    for (int i = 1; i < kLanes; ++i) {
      if (warp.done[i] != warp.done[0] || warp.shuffles[i] != warp.shuffles[0]) {
        std::fprintf(stderr, "lanes 0 and %d of a warp part ways at a shuffle\n", i);
        std::abort();
      }
    }
  }
}

template <typename T>
T exchange(T x, int source) {
  const int me = warp.current, buffer = warp.shuffles[me]++ % 2;
  std::memcpy(&warp.sent[buffer][me], &x, sizeof(T));
  swapcontext(&warp.lane[me], &warp.scheduler);
  T received;
  std::memcpy(&received, &warp.sent[buffer][source], sizeof(T));
  return received;
}

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned, T x, int lane, int width = 32) {
  const int me = emulator::warp.current;
  return emulator::exchange(x, (me & ~(width - 1)) | (lane & (width - 1)));
}

template <typename T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return emulator::exchange(x, emulator::warp.current ^ mask);
}

template <typename T>
T __ldg(const T* at) {
  if (reinterpret_cast<uintptr_t>(at) % alignof(T)) {  // a fault on a GPU
    std::fprintf(stderr, "a %zu byte load is misaligned\n", sizeof(T));
    std::abort();
  }
  return *at;
}

inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline long long __double2ll_rn(double x) { return std::llrint(x); }
inline float __double2float_ru(double x) {
  const float nearest = float(x);
  return nearest < x ? std::nextafter(nearest, INFINITY) : nearest;
}
inline void __syncthreads() { __shfl_sync(0, 0, 0); }  // for blocks of one warp
inline void atomicAdd(float* at, float x) { *at += x; }
inline void atomicMax(unsigned* at, unsigned x) { *at = std::max(*at, x); }

namespace {

struct OnDevice {
  explicit OnDevice(const torch::stable::Tensor&) {}
  int processors = std::atoi(std::getenv("MSDA_PROCESSORS"));
};

template <typename... Parameters, typename... Arguments>
void start(const char*, void (*kernel)(Parameters...), dim3 grid, int block, const OnDevice&, Arguments... arguments) {
  gridDim = grid, blockDim = dim3(block);
  emulator::warp.kernel = [=] { kernel(arguments...); };
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
      for (int first = 0; first < block; first += emulator::kLanes) emulator::run_warp(first);
}

}  // namespace
