# All that runs in a cluster, in one image from scratch: the two containers of a pod, the injector,
# the command line, and the libraries that they are linked to.
#
#   docker build -t NAME .                          # for this kind of machine
#   docker build --platform linux/arm64 -t NAME .   # for another
#   docker build --build-arg RUST=1.88 -t NAME .    # by another compiler
#   make image                                      # of what was built here

ARG RUST=1.95

FROM scratch AS prebuilt
COPY target/image /

FROM rust:${RUST}-bookworm AS build
WORKDIR /src
COPY . .
RUN make build image-root

FROM scratch
COPY --from=build /src/target/image /
