// The clock for the jobs of the benchmark: CLOCK_MONOTONIC in nanoseconds, the
// same in every process of the machine.
export const now = () => Number(process.hrtime.bigint());
export const clock = 'CLOCK_MONOTONIC';
