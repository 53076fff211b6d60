// What a GPU's caches and atomics do per second, for the floors of the operator's benchmark. Prints one JSON object.
//   nvcc -O3 -arch=sm_90 -o gpu_rates gpu_rates.cu && ./gpu_rates
// Gathers: groups of 4 or 8 lanes read 64 or 128 contiguous bytes at random places of a table that fits L1 or L2.
// Reductions: one, two or four floats each at random places of 25 MB (L2) or of a 64 KB window of each block.

#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#define CHECK(call)                                                                                \
  do {                                                                                             \
    const cudaError_t error = (call);                                                              \
    if (error != cudaSuccess) {                                                                    \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error));               \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

constexpr int kBlock = 256, kRounds = 512, kRepeats = 20;

__device__ __forceinline__ unsigned next(unsigned& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

// `places` segments of GROUP * 16 bytes; a power of two.
template <int GROUP>
__global__ void gather(const uint4* __restrict__ table, unsigned places, unsigned* sink) {
  unsigned state = (blockIdx.x * kBlock + threadIdx.x) / GROUP * 2654435761u, sum = 0;
#pragma unroll 8
  for (int i = 0; i < kRounds; ++i) {
    const uint4 v = __ldg(table + size_t(next(state) & (places - 1)) * GROUP + threadIdx.x % GROUP);
    sum += v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345) *sink = sum;
}

// GROUP lanes add WIDTH floats each to neighbouring places. `window` segments, for every block its own when local.
template <int WIDTH>
__global__ void reduce(float* sums, unsigned window, bool local) {
  constexpr int GROUP = 32 / WIDTH;  // 128 bytes a segment
  unsigned state = (blockIdx.x * kBlock + threadIdx.x) / GROUP * 2654435761u;
  float* own = sums + (local ? size_t(blockIdx.x) % 256 * window * 32 : 0);
#pragma unroll 4
  for (int i = 0; i < kRounds; ++i) {
    float* at = own + size_t(next(state) & (window - 1)) * 32 + threadIdx.x % GROUP * WIDTH;
#if __CUDA_ARCH__ >= 900
    if (WIDTH == 4)
      asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %1, %1, %1};" ::"l"(at), "f"(1.f) : "memory");
    if (WIDTH == 2) asm volatile("red.relaxed.gpu.global.add.v2.f32 [%0], {%1, %1};" ::"l"(at), "f"(1.f) : "memory");
#endif
    if (WIDTH == 1) asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(at), "f"(1.f) : "memory");
  }
}

__global__ void reduce_long(unsigned long long* sums, unsigned places) {
  unsigned state = (blockIdx.x * kBlock + threadIdx.x) / 32 * 2654435761u;
  for (int i = 0; i < kRounds; ++i) atomicAdd(sums + size_t(next(state) & (places - 1)) * 32 + threadIdx.x % 32, 1ull);
}

template <typename T>
__global__ void reduce_shared(T* sink) {
  __shared__ T sums[8192];
  for (int i = threadIdx.x; i < 8192; i += kBlock) sums[i] = 0;
  __syncthreads();
  unsigned state = (blockIdx.x * kBlock + threadIdx.x) / 32 * 2654435761u;
  for (int i = 0; i < kRounds; ++i) atomicAdd(sums + (next(state) & 255) * 32 + threadIdx.x % 32, T(1));
  __syncthreads();
  if (sums[threadIdx.x] == T(12345)) *sink = sums[0];
}

template <typename F>
double seconds(const F& launch) {
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < kRepeats + 3; ++i) {
    CHECK(cudaEventRecord(begin));
    launch();
    CHECK(cudaGetLastError());
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 3) times.push_back(milliseconds);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e-3;
}

int main() {
  int processors, clock;
  CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
  CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  const int blocks = processors * 8;
  const double threads = double(blocks) * kBlock * kRounds;
  void* memory;
  CHECK(cudaMalloc(&memory, 256 << 20));
  CHECK(cudaMemset(memory, 1, 256 << 20));
  printf("{\"processors\": %d, \"clock_khz\": %d", processors, clock);
  for (const unsigned kilobytes : {64u, 4096u, 16384u}) {
    const double narrow = seconds([&] {
      gather<4><<<blocks, kBlock>>>((const uint4*)memory, kilobytes << 4, (unsigned*)memory);
    });
    const double wide = seconds([&] {
      gather<8><<<blocks, kBlock>>>((const uint4*)memory, kilobytes << 3, (unsigned*)memory);
    });
    printf(", \"gather_%ukb_64b_gbps\": %.0f, \"gather_%ukb_128b_gbps\": %.0f", kilobytes, threads * 16 / narrow * 1e-9,
           kilobytes, threads * 16 / wide * 1e-9);
  }
  for (const bool local : {false, true}) {
    const unsigned window = local ? 512 : 1u << 18;  // 64 KB, 32 MB
    const char* where = local ? "local" : "random";
    float* sums = (float*)memory;
    const double one = seconds([&] { reduce<1><<<blocks, kBlock>>>(sums, window, local); });
    const double two = seconds([&] { reduce<2><<<blocks, kBlock>>>(sums, window, local); });
    const double four = seconds([&] { reduce<4><<<blocks, kBlock>>>(sums, window, local); });
    printf(", \"red_v1_%s_gadds\": %.1f, \"red_v2_%s_gadds\": %.1f, \"red_v4_%s_gadds\": %.1f", where,
           threads / one * 1e-9, where, 2 * threads / two * 1e-9, where, 4 * threads / four * 1e-9);
  }
  const double wide = seconds([&] { reduce_long<<<blocks, kBlock>>>((unsigned long long*)memory, 1u << 18); });
  const double shared = seconds([&] { reduce_shared<int><<<blocks, kBlock>>>((int*)memory); });
  const double floats = seconds([&] { reduce_shared<float><<<blocks, kBlock>>>((float*)memory); });
  printf(", \"red_int64_random_gadds\": %.1f, \"shared_int32_gadds\": %.1f, \"shared_fp32_gadds\": %.1f}\n",
         threads / wide * 1e-9, threads / shared * 1e-9, threads / floats * 1e-9);
  return 0;
}
