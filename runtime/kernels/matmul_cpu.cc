#include <omp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "runtime/base/check.h"
#include "runtime/device/buffer.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/matmul.h"

namespace entrain::cpu {
namespace {

using dnnl::memory;

// All that a compiled product depends on.
struct ProductKey {
  int64_t m, n, k;
  int64_t a_stride, b_stride, out_stride;
  DType dtype, out_dtype;
  bool transpose_a, transpose_b, bias, accumulate;

  auto operator<=>(const ProductKey&) const = default;
};

int64_t TermsOf(const MatmulArgs& args) { return args.a.dim(args.transpose_a ? 0 : 1); }

ProductKey KeyOf(const MatmulArgs& args) {
  return {.m = args.out.dim(0),
          .n = args.out.dim(1),
          .k = TermsOf(args),
          .a_stride = args.a.row_stride(),
          .b_stride = args.b.row_stride(),
          .out_stride = args.out.row_stride(),
          .dtype = args.a.dtype(),
          .out_dtype = args.out.dtype(),
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .bias = static_cast<bool>(args.bias),
          .accumulate = static_cast<bool>(args.addend)};
}

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc MatrixDesc(int64_t rows, int64_t columns, DType dtype, int64_t stride,
                        bool transposed) {
  const memory::dims strides = transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
  return {{rows, columns}, TypeOf(dtype), strides};
}

struct Product {
  memory::desc a, b, out, bias, scratchpad;
  dnnl::primitive primitive;
};

// Compiled products of a context and the scratch memory that they share.
class Products {
 public:
  void Run(const MatmulArgs& args) {
    const Product& product = Find(KeyOf(args));
    if (static_cast<int64_t>(product.scratchpad.get_size()) > scratch_.bytes()) {
      scratch_ = Buffer(static_cast<int64_t>(product.scratchpad.get_size()));
    }
    std::unordered_map<int, memory> operands = {
        {DNNL_ARG_SRC, {product.a, engine_, args.a.raw()}},
        {DNNL_ARG_WEIGHTS, {product.b, engine_, args.b.raw()}},
        {DNNL_ARG_DST, {product.out, engine_, args.out.raw()}},
        {DNNL_ARG_SCRATCHPAD, {product.scratchpad, engine_, scratch_.data()}}};
    if (args.bias) operands[DNNL_ARG_BIAS] = {product.bias, engine_, args.bias.raw()};
    product.primitive.execute(stream_, operands);
    stream_.wait();
  }

 private:
  const Product& Find(const ProductKey& key) {
    const auto [it, inserted] = products_.try_emplace(key);
    if (inserted) it->second = Compile(key);
    return it->second;
  }

  Product Compile(const ProductKey& key) const {
    Product product;
    product.a = MatrixDesc(key.m, key.k, key.dtype, key.a_stride, key.transpose_a);
    product.b = MatrixDesc(key.k, key.n, key.dtype, key.b_stride, key.transpose_b);
    product.out = MatrixDesc(key.m, key.n, key.out_dtype, key.out_stride, false);
    if (key.bias) product.bias = MatrixDesc(1, key.n, DType::kF32, key.n, false);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (key.accumulate) {
      dnnl::post_ops post_ops;
      post_ops.append_sum(1.0F);
      attributes.set_post_ops(post_ops);
    }
    const dnnl::matmul::primitive_desc description(
        key.bias ? dnnl::matmul::desc(product.a, product.b, product.bias, product.out)
                 : dnnl::matmul::desc(product.a, product.b, product.out),
        attributes, engine_);
    product.scratchpad = description.scratchpad_desc();
    product.primitive = dnnl::matmul(description);
    return product;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<ProductKey, Product> products_;
  Buffer scratch_;
};

// fp32 products over more than this many terms run piece by piece, each piece added to the last: oneDNN 2.6 does a single
// one over 50,304 terms (the gradient that comes back through the head) at 70 % of the speed.
constexpr int64_t kMaxTerms = 8192;

// The terms [begin, end) of a product, added to what `out` holds unless they are the first.
MatmulArgs Piece(const MatmulArgs& args, int64_t begin, int64_t end) {
  const auto columns = [&](const TensorView& view) {
    auto* from = view.data<float>() + begin;
    return TensorView(from, DType::kF32, {view.dim(0), end - begin}, view.row_stride());
  };
  MatmulArgs piece = args;
  piece.a = args.transpose_a ? args.a.Rows(begin, end - begin) : columns(args.a);
  piece.b = args.transpose_b ? columns(args.b) : args.b.Rows(begin, end - begin);
  if (begin > 0) {
    piece.bias = TensorView();
    piece.addend = args.out;
  }
  return piece;
}

void RunPieces(Products& products, const MatmulArgs& args) {
  constexpr int64_t kStep = 64;
  const int64_t terms = TermsOf(args);
  const int64_t num_pieces = (terms + kMaxTerms - 1) / kMaxTerms;
  const int64_t size = (terms / num_pieces / kStep + 1) * kStep;
  for (int64_t begin = 0; begin < terms; begin += size) {
    products.Run(Piece(args, begin, std::min(terms, begin + size)));
  }
}

}  // namespace

bool FusesEpilogue(Context& /*context*/, const MatmulArgs& /*args*/) { return false; }

void Matmul(Context& context, const MatmulArgs& args) {
  if (args.out.size() == 0) return;
  if (args.addend && args.addend.raw() != args.out.raw()) {
    // oneDNN adds to what is there.
    Cast(context, args.addend, args.out);
    MatmulArgs in_place = args;
    in_place.addend = args.out;
    return cpu::Matmul(context, in_place);
  }
#ifdef ENTRAIN_TSAN
  omp_set_num_threads(1);  // libgomp's barriers are invisible to ThreadSanitizer
#else
  omp_set_num_threads(context.num_threads());
#endif
  try {
    auto& products = context.Cache<Products>();
    if (args.a.dtype() == DType::kF32 && TermsOf(args) > kMaxTerms) {
      RunPieces(products, args);
    } else {
      products.Run(args);
    }
  } catch (const dnnl::error& error) {
    CHECK(false) << "matmul " << args.out.dim(0) << "x" << args.out.dim(1) << ": oneDNN says "
                 << error.message << " (status " << error.status << ")";
  }
}

void AllowTf32(Context& /*context*/) { CHECK(false) << "TF32 is of GPUs"; }

}  // namespace entrain::cpu
