//! When a request that failed is made again: exponential backoff with full jitter; how long an endpoint is left alone that says so.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often, and how long after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Tries of one request, the first included; at least 1.
    pub attempts: u32,
    /// Longest wait after the first failure; doubled after each further one.
    pub base: Duration,
    /// Longest wait unless the endpoint asks for more.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 6, base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after failure number `failures` (from 1): uniform in [0, min(cap, base 2^(failures - 1))], `random` in [0, 1) saying where.
    pub(crate) fn delay(&self, failures: u32, random: f64) -> Duration {
        let longest = self.base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(self.cap);
        longest.mul_f64(random.clamp(0.0, 1.0))
    }

    /// How long nobody asks once the endpoint has sent a request away `times` times and answered nobody meanwhile: as long as it `asked`, and
    /// longer where that was not enough.
    pub(crate) fn hold(&self, times: u32, asked: Option<Duration>, random: f64) -> Duration {
        match asked {
            Some(asked) if times <= 1 => asked,
            asked => asked.unwrap_or_default() + self.delay(times, random),
        }
    }

    /// The time over which those come back who waited for such a moment.
    pub(crate) fn spread(&self, hold: Duration) -> Duration {
        self.base.min(hold)
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date in any of the three forms of
/// RFC 9110 (5.6.7, 10.2.3). Dates that have passed ask for none.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        // More than a day is a way to say never.
        return (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)));
    }
    let then = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of a date as `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
fn http_date(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split([' ', '-', ',']).filter(|part| !part.is_empty()).collect();
    let (day, name, year, clock) = match parts[..] {
        [_, day, month, year, clock, "GMT"] => (day, month, year, clock),
        [_, month, day, clock, year] => (day, month, year, clock),
        _ => return None,
    };
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = month.iter().position(|it| *it == name)? as u64 + 1;
    let day: u64 = day.parse().ok()?;
    let year = match (year.len(), year.parse::<u64>().ok()?) {
        // Two digits: a wait is no matter of decades, so that the century is ours, but for a date that is long past.
        (2, year) => {
            if year < 70 {
                2000 + year
            } else {
                1900 + year
            }
        }
        (_, year) => year,
    };
    let mut clock = clock.splitn(3, ':').map(|it| it.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, years beginning in March so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_capped_and_never_shorter_than_asked() {
        let backoff = Backoff { attempts: 9, base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        let longest: Vec<u64> = (1..=6).map(|failures| backoff.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.delay(40, 0.5), Duration::from_secs(5));
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
        let asked = Some(Duration::from_secs(30));
        assert_eq!(backoff.hold(1, asked, 0.5), Duration::from_secs(30));
        assert_eq!(backoff.hold(2, asked, 0.5), Duration::from_secs(31));
        assert_eq!(backoff.hold(2, None, 0.5), Duration::from_secs(1));
        assert_eq!(backoff.spread(Duration::from_secs(30)), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(retry_after(date, now), Some(Duration::from_secs(90)), "{date}");
        }
        assert_eq!(retry_after("Sun, 06 Nov 1983 08:49:37 GMT", now), Some(Duration::ZERO));
        for bad in ["-1", "soon", "", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", "nan"] {
            assert_eq!(retry_after(bad, now), None, "{bad}");
        }
        let days = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
        ];
        for (text, seconds) in days {
            assert_eq!(http_date(text), Some(seconds), "{text}");
        }
    }
}
