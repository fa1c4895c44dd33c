//! Dates as ZooKeeper writes them, in UTC.

/// Days and times of one instant.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// `Tue Nov 24 02:19:24 UTC 2026`, as Java's `Date.toString`, of a number of seconds since 1970.
pub fn java_date(seconds: i64) -> String {
    let Civil { year, month, day, weekday, hour, minute, second } = civil(seconds);
    let (weekday, month) = (WEEKDAYS[weekday], MONTHS[month - 1]);
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// `11/24/2026 02:19 UTC`, as ZooKeeper up to 3.5 wrote its build date, and as go-zookeeper reads it.
pub fn build_date(seconds: i64) -> String {
    let Civil { year, month, day, hour, minute, .. } = civil(seconds);
    format!("{month:02}/{day:02}/{year:04} {hour:02}:{minute:02} UTC")
}

/// The proleptic Gregorian calendar, counted in eras of 400 years that begin on a first of March, so that the leap
/// day is an era's last.
fn civil(seconds: i64) -> Civil {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let since_era_zero = days + 719_468;
    let era = since_era_zero.div_euclid(146_097);
    let day_of_era = since_era_zero.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Civil {
        year: era * 400 + year_of_era + i64::from(month <= 2),
        month: month as usize,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        weekday: (days + 4).rem_euclid(7) as usize,
        hour: time / 3_600,
        minute: time / 60 % 60,
        second: time % 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (seconds, date) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_486_764, "Tue Nov 24 02:19:24 UTC 2026"),
            (1_798_761_599, "Thu Dec 31 23:59:59 UTC 2026"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(java_date(seconds), date);
        }
        assert_eq!(build_date(1_795_486_764), "11/24/2026 02:19 UTC");
        assert_eq!(build_date(0), "01/01/1970 00:00 UTC");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_last() {
        let mut before = civil(0);
        for day in 1..146_097 {
            let now = civil(day * 86_400);
            assert_eq!(now.weekday, (before.weekday + 1) % 7);
            let next_day = now.month == before.month && now.day == before.day + 1;
            let next_month = now.day == 1 && now.month == before.month % 12 + 1 && before.day >= 28;
            let new_year = i64::from(now.month == 1 && now.day == 1);
            assert_eq!(now.year, before.year + new_year, "{}", java_date(day * 86_400));
            assert!(next_day || next_month, "{}", java_date(day * 86_400));
            before = now;
        }
        assert_eq!((before.year, before.month, before.day), (2369, 12, 31));
    }
}
