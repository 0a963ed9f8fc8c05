//! What is counted elsewhere and told here, in Prometheus' text form.

use std::fmt::Write;

/// How late the ticks of the media workers ran, by buckets that are not cumulative; bounds and sum in microseconds.
pub fn ticks(bounds_us: &[u64], counts: &[u64], sum_us: u64) -> String {
    let name = "dialtone_media_tick_lateness_seconds";
    let mut page = format!("# HELP {name} How late the 20 ms media tick ran.\n# TYPE {name} histogram\n");
    let mut sum = 0;
    for (bound, count) in bounds_us.iter().zip(counts) {
        sum += count;
        let _ = writeln!(page, "{name}_bucket{{le=\"{}\"}} {sum}", *bound as f64 / 1e6);
    }
    let all: u64 = counts.iter().sum();
    let _ =
        write!(page, "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {}\n{name}_count {all}\n", sum_us as f64 / 1e6);
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn buckets_are_cumulative() {
        let page = super::ticks(&[1_000, 5_000], &[7, 2, 1], 12_500);
        for line in ["{le=\"0.001\"} 7", "{le=\"0.005\"} 9", "{le=\"+Inf\"} 10", "_sum 0.0125", "_count 10"] {
            assert!(page.contains(line), "{page}");
        }
    }
}
