-- One line of JSON at the end. Without a response function wrk parses the answers in C alone.
done = function(summary, latency)
    local failed = summary.errors
    print(string.format(
        '{"requests": %d, "errors": %d, "body_bytes": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "worst_ms": %.4f}',
        summary.requests, failed.connect + failed.read + failed.write + failed.status + failed.timeout, summary.bytes,
        summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
