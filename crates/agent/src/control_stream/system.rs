//! Load of the machine, from `/proc`.

use portal::SystemLoad;
use procfs::{Current as _, CurrentSI as _};

/// Measures the load; the usage of the processors is that since the last measurement.
#[derive(Debug, Default)]
pub(super) struct SystemMeter {
    last: Option<CpuTicks>,
}

/// Time of all processors since the machine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuTicks {
    busy: u64,
    total: u64,
}

impl SystemMeter {
    /// Measures; `None` where `/proc` cannot be read.
    pub(super) fn measure(&mut self) -> Option<SystemLoad> {
        let ticks = CpuTicks::read()?;
        let memory = procfs::Meminfo::current().ok()?;
        let load = procfs::LoadAverage::current().ok()?;
        let last = self.last.replace(ticks);
        let available = memory.mem_available.unwrap_or(memory.mem_free);
        Some(SystemLoad {
            cpu_percent: last.map_or(0.0, |last| ticks.percent_since(last)),
            memory_total: memory.mem_total,
            memory_used: memory.mem_total.saturating_sub(available),
            load_1m: load.one.into(),
        })
    }
}

impl CpuTicks {
    fn read() -> Option<Self> {
        let cpu = procfs::KernelStats::current().ok()?.total;
        let busy = cpu.user
            + cpu.nice
            + cpu.system
            + cpu.irq.unwrap_or_default()
            + cpu.softirq.unwrap_or_default()
            + cpu.steal.unwrap_or_default();
        let total = busy + cpu.idle + cpu.iowait.unwrap_or_default();
        Some(Self { busy, total })
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage of ticks")]
    fn percent_since(self, last: Self) -> f64 {
        let total = self.total.saturating_sub(last.total);
        let busy = self.busy.saturating_sub(last.busy).min(total);
        busy as f64 / total.max(1) as f64 * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_measured() {
        let mut meter = SystemMeter::default();
        let (first, second) = (meter.measure().unwrap(), meter.measure().unwrap());
        assert!(first.memory_used > 0 && first.memory_used < first.memory_total);
        assert!((0.0..=100.0).contains(&second.cpu_percent), "{second:?}");
    }

    #[test]
    fn the_usage_is_that_between_two_measurements() {
        let ticks = |busy, total| CpuTicks { busy, total };
        let percent = |now: CpuTicks, last| now.percent_since(last);
        assert!((percent(ticks(60, 200), ticks(10, 100)) - 50.0).abs() < 0.01);
        assert!(percent(ticks(60, 200), ticks(60, 200)).abs() < 0.01);
    }
}
