// Starting kernels: on the tensors' device, on torch's current stream, and never without looking at the outcome.
// A test that runs the kernels on a CPU defines MSDA_LAUNCH and brings its own OnDevice and start.
#ifndef MSDA_LAUNCH
#define MSDA_LAUNCH

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdint.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

namespace {

#define MSDA_TEXT(...) #__VA_ARGS__
#define MSDA_EXPAND(...) MSDA_TEXT(__VA_ARGS__)

// Looked up when called: linked, it would keep the library from loading beside a torch without CUDA.
cudaStream_t current_stream(int32_t device) {
  using Lookup = int32_t (*)(int32_t, void**);
  static const Lookup lookup = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Lookup>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  STD_TORCH_CHECK(lookup, "deformable attention: this process has no CUDA build of torch loaded");
  void* stream = nullptr;
  STD_TORCH_CHECK(lookup(device, &stream) == 0, "deformable attention: no current CUDA stream on device ", device);
  return static_cast<cudaStream_t>(stream);
}

// The tensors' device and its current stream, for the time of a call.
struct OnDevice {
  explicit OnDevice(const torch::stable::Tensor& tensor)
      : guard(tensor.get_device_index()), stream(current_stream(tensor.get_device_index())) {
    cudaSetDevice(tensor.get_device_index());  // the guard's runtime is torch's, this library has its own
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, tensor.get_device_index());
  }
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
  int processors = 0;
};

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  STD_TORCH_CHECK(false, "deformable attention: the ", kernel,
                  " kernel did not start on a device of compute capability ", major, ".", minor, ": ",
                  cudaGetErrorString(error), ". This library was built for ", MSDA_EXPAND(__CUDA_ARCH_LIST__),
                  " (capability times 100); rebuild it with `python -m models.ops build cuda --cuda-arch ", major, ".",
                  minor, "`, or set REFERTRACK_OPS=triton");
}

template <typename... Parameters, typename... Arguments>
void start(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, const OnDevice& device,
           Arguments... arguments) {
  kernel<<<grid, block, 0, device.stream>>>(arguments...);
  check_launch(name);
}

}  // namespace

#endif
