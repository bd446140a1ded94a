# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# librdkafka is compiled from source, with OpenSSL for TLS and SCRAM, and zlib.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates ./crates
COPY src ./src
COPY config ./config
# Cargo.toml names them, and is not read without.
COPY benches ./benches
# What `demo` posts.
COPY tests/examples ./tests/examples
# The caches stay on the build machine; so the binary is copied out of the cached folder in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --features ssl --bin activity-stream \
    && cp target/dist/activity-stream /usr/local/bin/activity-stream

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin activity-stream \
    && install --directory --owner=activity-stream --group=activity-stream --mode=0750 /var/lib/activity-stream
COPY --from=build /usr/local/bin/activity-stream /usr/local/bin/activity-stream
COPY config/default.toml /usr/share/doc/activity-stream/default.toml
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/activity-stream/

USER activity-stream
WORKDIR /var/lib/activity-stream
# The event log outlives the container.
VOLUME /var/lib/activity-stream
ENV ACTIVITY_STREAM_LOG_PATH=/var/lib/activity-stream/activity.db \
    ACTIVITY_STREAM_ADMIN_LISTEN=0.0.0.0:9464
EXPOSE 9464

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["activity-stream", "check", "--ready"]
ENTRYPOINT ["activity-stream"]
CMD ["run"]
