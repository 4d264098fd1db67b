//! When a request that failed is made again: exponential backoff with full jitter, and never before the endpoint says.

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
    /// The wait after failure number `failures` (from 1): uniform in [0, min(cap, base 2^(failures - 1))], `random` in [0, 1) saying where, and
    /// behind `asked` where the endpoint sent `Retry-After`.
    pub(crate) fn delay(&self, failures: u32, asked: Option<Duration>, random: f64) -> Duration {
        let longest = self.base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(self.cap);
        let jitter = longest.mul_f64(random.clamp(0.0, 1.0));
        // Everybody was sent away until the same moment: come back spread over the first wait.
        asked.map_or(jitter, |asked| asked + self.base.mul_f64(random.clamp(0.0, 1.0)))
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110, 10.2.3). Dates that have passed ask for none.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        // More than a day is a way to say never.
        return (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)));
    }
    let then = UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of a date as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = parts.next()?;
    let month = month.iter().position(|it| *it == name)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.splitn(3, ':').map(|it| it.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if parts.next()? != "GMT" || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
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
        let longest: Vec<u64> = (1..=6).map(|failures| backoff.delay(failures, None, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.delay(40, None, 0.5), Duration::from_secs(5));
        assert_eq!(backoff.delay(3, None, 0.0), Duration::ZERO);
        let asked = Some(Duration::from_secs(30));
        assert_eq!(backoff.delay(1, asked, 0.0), Duration::from_secs(30));
        assert_eq!(backoff.delay(1, asked, 0.5), Duration::from_millis(30_500));
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(90)));
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
