#!/bin/sh
# What docker/Dockerfile and apptainer/segkit.def have in common: segkit in a virtual environment, /opt/segkit, which
# the last stage copies. In a folder with pyproject.toml and constraints.txt:
#
#   install.sh dependencies EXTRA ...    by the requirements $RUNTIME and $TORCH, and an index for the latter, $TORCH_INDEX
#   install.sh segkit                    the package; what no run needs is taken out again
#   install.sh base                      in the last stage: no pip in the base any more, and bytecode, which slim images lack
set -eu
prefix=/opt/segkit
# pip stays outside of the environment that it fills.
pip=/tmp/pip

packages() {
    # A build that pip isolates reads the variable alone.
    PIP_CONSTRAINT=$PWD/constraints.txt "$pip/bin/pip" --quiet --disable-pip-version-check --python "$prefix/bin/python" \
        install --no-cache-dir --no-compile --root-user-action ignore "$@"
}

dependencies() {
    python3 -m venv "$pip"
    python3 -m venv --without-pip "$prefix"
    case " $* " in
        *" train "*) packages ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$TORCH" ;;
    esac
    python3 docker/requirements.py "$RUNTIME" "$@" > "$pip/requirements.txt"
    packages --requirement "$pip/requirements.txt"
}

segkit() {
    packages --no-deps .
    mkdir "$prefix/libexec"
    mv "$prefix/bin/segkit" "$prefix/libexec/"
    cp docker/segkit.sh "$prefix/bin/segkit"
    cp docker/healthcheck.py "$prefix/libexec/"
    cd "$prefix"/lib/python3*/site-packages
    # Tests, headers, and programs that build or test PyTorch. Of its own folders it needs bin/torch_shm_manager.
    find . -type d \( -name tests -o -name test \) -path './*/*' -prune -exec rm -rf {} +
    find . -type f \( -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.cuh' -o -name '*.pyi' -o -name '*.pyx' \
        -o -name '*.pxd' \) -delete
    rm -rf torch/include torch/share torch/bin/test_* torch/bin/protoc* torch/bin/*Test
    # ONNX Runtime with TensorRT wants TensorRT itself, which no package here brings.
    rm -f onnxruntime/capi/libonnxruntime_providers_tensorrt.so
    # For programs in C; the module for Python has all of it in itself.
    rm -f onnxruntime/capi/libonnxruntime.so.*
    compile "$prefix"
}

base() {
    # The base's own pip, and the wheels from which a venv gets one: nothing more is installed into this image.
    own=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    standard=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    rm -rf /usr/share/python-wheels "$standard/ensurepip/_bundled" "$own"/pip "$own"/pip-* "$own"/setuptools "$own"/setuptools-* \
        "$own"/wheel "$own"/wheel-* "$(dirname "$(command -v python3)")"/pip*
    compile "$standard"
}

# Python in a read-only image can't keep what it compiles and so would compile at each start. Without a check of the
# sources, because layers and archives may change their times. Packages hold files for other Pythons than this one, and
# those do not compile.
compile() {
    python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash \
        -x '/(site-packages/pip|dist-packages|lib2to3|idlelib|test)/' "$1" || true
}

"$@"
