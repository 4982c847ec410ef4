#!/usr/bin/env bash
# Packs a build with the CUDA backend, and what it needs beside the driver and CUDA's own libraries, into a folder that runs where
# nothing is installed: programs, shared libraries, Open MPI, configurations, a small corpus, golden cases. `./run bundle` calls it.
#
#   cluster/bundle.sh BUILD_FOLDER OUT [PROGRAM...]     PROGRAM: more programs of the build than those below
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
source_folder=$(cd "$(dirname "$0")/.." && pwd)
build=$1
out=$2
shift 2

# Of Debian's Open MPI, below /usr. Left out: fabrics that need libraries of their own, OpenSHMEM, monitoring.
mpi_root=/usr
libraries=lib/x86_64-linux-gnu
left_out='ucx|ofi|psm|openib|usnic|oob_ud|spml|scoll|sshmem|memheap|atomic_|oshmem|fs_lustre|monitoring|topo_treematch|flux|btl_sm'
# From the machine that it runs on: its C library, and what comes with the driver and with CUDA.
of_the_machine='^(ld-linux.*|lib(c|m|dl|pthread|rt|resolv)\.so.*|lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvrtc|nvJitLink).*)$'
# Taken from here only where the machine has none: an older one would shadow the machine's.
compilers='^lib(stdc\+\+|gcc_s)\.so.*$'

copy_programs() {
  mkdir -p "$out/bin"
  local program
  for program in "$build/entrain" "$build/tests/gpu_tests" "$build/tests/gpu_bench" "$@"; do
    [ -x "$program" ] || { echo "bundle: no $program; build cuda_programs first" >&2; exit 1; }
    install -s -m 755 "$program" "$out/bin/"
  done
}

# Open MPI finds its own files below OPAL_PREFIX, laid out as below /usr.
copy_open_mpi() {
  local to=$out/openmpi plugin
  mkdir -p "$to/bin" "$to/$libraries/openmpi/lib/openmpi3" "$to/share"
  cp "$mpi_root"/bin/{orterun,orted} "$to/bin/"
  ln -sf orterun "$to/bin/mpirun"
  mkdir -p "$to/share/openmpi"
  cp "$mpi_root"/share/openmpi/help-*.txt "$to/share/openmpi/"
  for plugin in "$mpi_root/$libraries"/openmpi/lib/openmpi3/*.so; do
    grep -qE "$left_out" <<<"${plugin##*/}" || cp -L "$plugin" "$to/$libraries/openmpi/lib/openmpi3/"
  done
  cp -r "$mpi_root/$libraries/pmix2" "$to/$libraries/"
  rm -rf "$to/$libraries"/pmix2/{include,bin,share/doc} "$to/$libraries"/pmix2/lib/*.{a,la}
}

# What programs and plugins load at their start, until nothing is new.
copy_libraries() {
  mkdir -p "$out/lib/compiler"
  local before=-1 count=0 library name
  while [ "$count" -ne "$before" ]; do
    before=$count
    while read -r library; do
      name=$(basename "$library")
      grep -qE "$of_the_machine" <<<"$name" && continue
      if grep -qE "$compilers" <<<"$name"; then
        cp -L "$library" "$out/lib/compiler/"
      elif [ ! -e "$out/lib/$name" ]; then
        cp -L "$library" "$out/lib/"
        echo "$library" >>"$out/libraries.txt"
      fi
    done < <(find "$out" -type f \( -name '*.so*' -o -path '*/bin/*' \) -print0 | xargs -0 ldd 2>/dev/null |
      awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u)
    count=$(find "$out/lib" -type f | wc -l)
  done
  find "$out/lib" "$out/openmpi" -type f -name '*.so*' -exec strip --strip-unneeded {} + 2>/dev/null || true
}

copy_files() {
  cp -r "$source_folder/configs" "$source_folder/LICENSE" "$out/"
  mkdir -p "$out/tests/data" "$out/bench" "$out/share/entrain"
  cp -r "$source_folder/tests/data/"{golden,golden_floor.json} "$out/tests/data/"
  cp "$source_folder"/tests/bench/{gpu_all.sh,torch_baseline.py} "$out/bench/"
  cp -r "$source_folder/runtime/data/gpt2" "$out/share/entrain/"
  cp "$source_folder/cluster/bundle_env.sh" "$out/env.sh"
  cp "$source_folder/cluster/bundle_readme.txt" "$out/README.txt"
}

# The packages that the copied files are of, and their terms.
write_notice() {
  mkdir -p "$out/licenses"
  {
    cat "$source_folder/NOTICE"
    printf '\nLibraries and programs of Debian packages, as they were on the machine that built this, debug symbols removed:\n\n'
    { cat "$out/libraries.txt"; find "$out/lib/compiler" -name '*.so*' -printf "$mpi_root/$libraries/%f\n"; } |
      xargs -n 1 readlink -f | while read -r file; do
      dpkg-query -S "$file" "/usr$file" "${file#/usr}" 2>/dev/null || true
    done | cut -d: -f1 | cat - <(printf 'libopenmpi3\nopenmpi-bin\nopenmpi-common\nlibpmix2\n') | sort -u | while read -r package; do
      cp -L "/usr/share/doc/$package/copyright" "$out/licenses/$package" 2>/dev/null || continue
      # shellcheck disable=SC2016  # dpkg-query's own
      printf '%s\n    licenses/%s\n' "$package $(dpkg-query -W -f '${Version}' "$package" 2>/dev/null)" "$package"
    done
    printf '\nNot in here, and taken from the machine that it runs on: the NVIDIA driver and cuBLASLt, and where they are there cuDNN and NCCL,\nunder NVIDIA'"'"'s own terms.\n'
  } >"$out/NOTICE"
  rm "$out/libraries.txt"
  # To which those files refer.
  cp -L /usr/share/common-licenses/{Apache-2.0,BSD,GPL-2,GPL-3,LGPL-2.1,LGPL-3} "$out/licenses/" 2>/dev/null || true
}

rm -rf "$out"
mkdir -p "$out"
copy_programs "$@"
copy_open_mpi
copy_libraries
copy_files
write_notice
