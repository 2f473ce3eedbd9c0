# An image for CI: bpfmatrix, with all that it calls, for a user without privileges.
#
#   docker build -t bpfmatrix .
#   docker run --rm -v "$PWD:/project" -v bpfmatrix-cache:/var/cache/bpfmatrix bpfmatrix bpfmatrix matrix
#
# `--device /dev/kvm` makes it faster, if the host's user of that number may open it (docs/ci.md).

FROM debian:13-slim AS wheel
WORKDIR /source
COPY . .
RUN ./bootstrap --tools aarch64
# The architectures of guests whose own programs the image has.
ARG BPFMATRIX_WHEEL_ARCHITECTURES=x86_64,aarch64
# The version, which is a tag of git, and git's folder is not here.
ARG VERSION=0
RUN python3 -m venv /venv \
	&& GOTOOLCHAIN=auto SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" /venv/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM debian:13-slim
# What a project is built with is a part of it: clang, make, Go, the headers of libbpf.
RUN --mount=type=bind,target=/source \
	/source/bootstrap --tools aarch64 \
	&& apt-get install -y --no-install-recommends git \
	&& rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
	python3 -m venv /opt/bpfmatrix \
	&& /opt/bpfmatrix/bin/pip install --no-cache-dir /wheels/*.whl \
	&& useradd --create-home --uid 1000 bpfmatrix \
	&& install -d -o bpfmatrix -g bpfmatrix /var/cache/bpfmatrix /project
ENV PATH=/opt/bpfmatrix/bin:$PATH \
	BPFMATRIX_CACHE=/var/cache/bpfmatrix \
	GOTOOLCHAIN=auto
USER 1000:1000
VOLUME /var/cache/bpfmatrix
WORKDIR /project
CMD ["bpfmatrix", "--list"]
