# An image for CI: bpfmatrix, with all that it calls, for a user without privileges (docs/ci.md).
#
#   nox -s dist
#   docker build --tag bpfmatrix .
FROM debian:13-slim

# The same list as on any other machine. It has what a project is built with: clang, make, Go, libbpf.
RUN --mount=type=bind,target=/source \
	/source/bootstrap --tools aarch64 \
	&& apt-get install -y --no-install-recommends git \
	&& rm -rf /var/lib/apt/lists/*

RUN --mount=type=bind,source=dist,target=/dist \
	python3 -m venv /opt/bpfmatrix \
	&& /opt/bpfmatrix/bin/pip install --no-cache-dir /dist/bpfmatrix-*.whl \
	&& useradd --create-home --uid 1000 bpfmatrix \
	&& install -d -o bpfmatrix -g bpfmatrix /var/cache/bpfmatrix /project

ENV PATH=/opt/bpfmatrix/bin:$PATH \
	BPFMATRIX_CACHE=/var/cache/bpfmatrix \
	GOTOOLCHAIN=auto
USER 1000:1000
VOLUME /var/cache/bpfmatrix
WORKDIR /project
CMD ["bpfmatrix", "--list"]
