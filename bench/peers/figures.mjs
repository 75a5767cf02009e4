// What is read from a result of the load generator: by name, the value, its unit, and what it is called.

/** Small messages all clients of `heartbeats` send together. */
export const HEARTBEATS_PER_SECOND = 50_000;

/** The figure of most cases. */
export const CPU = "cpu";

const MIB = 2 ** 20;
const millis = (micros) => (micros == null ? undefined : micros / 1000);
const lastStep = (report) => report.steps?.at(-1);

/** CPU-µs a second of the server at the last step, for each of so many. */
function idleCpuOver(report, count) {
  const micros = lastStep(report)?.server_cpu_us_per_second;
  return micros == null ? undefined : micros / count;
}

/** Most memory of the server at any time of the measured part, in bytes. */
function memoryPeak(report) {
  const sizes = report.timeline?.points.map((point) => point.server_resident_bytes).filter((bytes) => bytes != null);
  return sizes?.length ? Math.max(...sizes) / MIB : undefined;
}

/**
 * Of all of these less is better, but for rates. `undefined` is what was not measured. What is of time says little about
 * the server when something else was the limit.
 */
export const FIGURES = {
  cpu: { name: "CPU-µs a delivery", unit: "CPU-µs/delivery", value: (report) => report.server?.cpu_us_per_delivery },
  lastP50: {
    name: "p50 to the last member, ms",
    unit: "ms p50",
    value: (report) => millis(report.to_last_member?.p50_us),
    isOfTime: true,
  },
  lastP99: {
    name: "p99 to the last member, ms",
    unit: "ms p99",
    value: (report) => millis(report.to_last_member?.p99_us),
    isOfTime: true,
  },
  deliveryRate: {
    name: "deliveries a second",
    unit: "deliveries/s",
    value: (report) => (report.seconds > 0 ? report.deliveries / report.seconds : undefined),
    isOfTime: true,
  },
  memoryPeak: { name: "most memory, MiB", unit: "MiB", value: memoryPeak },
  bytesPerConnection: {
    name: "bytes a connection",
    unit: "B/connection",
    value: (report) => report.server_bytes_per_connection,
  },
  idleCpu: {
    name: "CPU-µs a second and connection",
    unit: "CPU-µs/s/connection",
    value: (report) => idleCpuOver(report, lastStep(report)?.connections),
  },
  cpuPerConnect: {
    name: "CPU-µs a client let in",
    unit: "CPU-µs/connect",
    value: (report) => report.server?.cpu_us_per_connect,
  },
  cpuPerReceived: {
    name: "CPU-µs a received message",
    unit: "CPU-µs/message",
    value: (report) => idleCpuOver(report, HEARTBEATS_PER_SECOND),
  },
};
