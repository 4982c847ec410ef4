# shellcheck shell=bash
# Source me: `. ./env.sh`. From here on this shell uses the programs, libraries and Open MPI of this folder. What comes with CUDA is
# looked for where toolkits and Python's packages put it.

bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
_libraries=$bundle/openmpi/lib/x86_64-linux-gnu
export OPAL_PREFIX=$bundle/openmpi
export PMIX_PREFIX=$_libraries/pmix2 PMIX_INSTALL_PREFIX=$_libraries/pmix2
export PATH=$bundle/bin:$bundle/openmpi/bin:$PATH
_path=$bundle/lib:$_libraries:$_libraries/openmpi/lib:$_libraries/pmix2/lib
export ENTRAIN_TEST_DATA_DIR=$bundle/tests/data
# One machine; without ssh mpirun would refuse even that.
command -v ssh >/dev/null || export OMPI_MCA_plm=isolated
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp
export OMPI_MCA_mca_base_component_show_load_errors=0 PMIX_MCA_pcompress_base_silence_warning=1

# Whether the dynamic linker finds a library by itself.
_known() { ldconfig -p 2>/dev/null | grep -q "[[:space:]]$1 " || /sbin/ldconfig -p 2>/dev/null | grep -q "[[:space:]]$1 "; }

_known libstdc++.so.6 || _path=$_path:$bundle/lib/compiler

_python_folders() {
  python3 -c 'import nvidia; print("\n".join(nvidia.__path__))' 2>/dev/null
}
_before=${LD_LIBRARY_PATH:-}
entrain_missing=
_without=
for _library in libcublasLt.so.13 libcudnn.so.9 libnccl.so.2 libnvrtc.so.13; do
  _known "$_library" && continue
  _found=
  # What the user's shell had comes first.
  for _folder in ${_before//:/ } /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda-*/lib64 \
    /usr/lib/x86_64-linux-gnu $(for _p in $(_python_folders); do echo "$_p"/*/lib; done); do
    [ -e "$_folder/$_library" ] && { _found=$_folder; break; }
  done
  case ":$_path:" in *":$_found:"*) ;; *) _path=$_path:$_found ;; esac
  [ -n "$_found" ] && continue
  case $_library in
    libcublasLt*) entrain_missing="$entrain_missing $_library" ;;
    *) _without="$_without $_library" ;;
  esac
done
export LD_LIBRARY_PATH=${_path%:}${_before:+:$_before}
[ -z "$entrain_missing" ] || echo "env.sh: needed and not found on this machine:$entrain_missing" >&2
# NCCL connects several GPUs, cuDNN (and nvrtc, its compiler) is a second engine for attention.
[ -z "$_without" ] || echo "env.sh: not found on this machine, programs do without:$_without" >&2
unset _libraries _path _before _library _found _folder _without
