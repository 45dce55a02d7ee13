//! Column types of MySQL, and values of each as DMS writes them: edges, close neighbours, and anything between.

use super::random::Random;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Integer { name: &'static str, bits: u32, unsigned: bool },
    Decimal { precision: u32, scale: u32 },
    Float,
    Double,
    Bit(u32),
    Date,
    Datetime(u32),
    Timestamp(u32),
    Time(u32),
    Year,
    Text(&'static str),
    Binary(usize),
    Bytes(&'static str),
}

const INTEGERS: &[(&str, u32)] = &[("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64)];

/// Around 15 digits a double is exact no more, at 18 an `i64` ends, and beyond 38 a decimal is text.
const DECIMALS: &[(u32, u32)] = &[(1, 0), (5, 5), (10, 2), (15, 2), (16, 0), (18, 4), (20, 0), (38, 10), (40, 3)];

const TEXTS: &[&str] = &["varchar(300)", "char(40)", "text", "longtext", "enum('a','b')", "set('a','b')", "json"];

const WORDS: &[&str] = &[
    "",
    "Arcadia",
    "arcadia",
    "Saint Elmo, Isles of",
    "say \"hello\"",
    "two\nlines",
    "carriage\r\nreturn",
    "Île Verte",
    " spaces around ",
    "back\\slash",
    "NULL",
    "\\N",
    "0",
    "日本語 🦀",
    "a'b;c|d\te",
    "south/west",
    "a=b c%20",
    "\u{10FFFF}",
];

const FLOATS: &[&str] = &["0", "-0.0", "1.5", "+3.23800011e+01", "3.4028235e38", "-1.17549435e-38", "1e-3"];

impl Kind {
    /// Any type, each family as often as every other.
    pub fn any(random: &mut Random) -> Self {
        match random.below(12) {
            0 => *random.pick(&[Self::Float, Self::Double]),
            1 => Self::Bit(*random.pick(&[1, 2, 8, 63, 64])),
            2 => Self::Year,
            3 => Self::Time(*random.pick(&[0, 3, 6])),
            _ => Self::for_key(random),
        }
    }

    /// A type that keys have.
    pub fn for_key(random: &mut Random) -> Self {
        match random.below(8) {
            0 | 1 => {
                let &(name, bits) = random.pick(INTEGERS);
                Self::Integer { name, bits, unsigned: random.percent(50) }
            }
            2 => {
                let &(precision, scale) = random.pick(DECIMALS);
                Self::Decimal { precision, scale }
            }
            3 => Self::Date,
            4 => Self::Datetime(*random.pick(&[0, 3, 6, 6])),
            5 => Self::Timestamp(*random.pick(&[0, 3, 6])),
            6 => Self::Text(random.pick::<&str>(TEXTS)),
            _ if random.percent(50) => Self::Binary(*random.pick(&[1, 16, 100])),
            _ => Self::Bytes(random.pick::<&str>(&["varbinary(100)", "blob"])),
        }
    }

    /// Whether Delta has one text for each value, so that a table can be partitioned by it.
    pub fn partitions(self) -> bool {
        !matches!(self, Self::Float | Self::Double | Self::Binary(_) | Self::Bytes(_) | Self::Bit(_))
    }

    /// As CREATE TABLE says it.
    pub fn sql(self) -> String {
        match self {
            Self::Integer { name, unsigned: true, .. } => format!("{name} unsigned"),
            Self::Integer { name, .. } => name.to_owned(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::Float => "float".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Bit(bits) => format!("bit({bits})"),
            Self::Date => "date".to_owned(),
            Self::Datetime(digits) => format!("datetime({digits})"),
            Self::Timestamp(digits) => format!("timestamp({digits})"),
            Self::Time(digits) => format!("time({digits})"),
            Self::Year => "year".to_owned(),
            Self::Text(name) | Self::Bytes(name) => name.to_owned(),
            Self::Binary(bytes) => format!("binary({bytes})"),
        }
    }

    pub fn value(self, random: &mut Random) -> String {
        match self {
            Self::Float | Self::Double if random.percent(50) => (*random.pick(FLOATS)).to_owned(),
            Self::Text(_) if random.percent(90) => (*random.pick(WORDS)).to_owned(),
            Self::Text(_) => "long ".repeat(1 + random.index(100)),
            Self::Date | Self::Datetime(_) | Self::Timestamp(_) if random.percent(5) => "0000-00-00".to_owned(),
            Self::Binary(bytes) => (0..bytes).map(|_| *random.pick(&["00", "ff", "5a"])).collect(),
            Self::Bytes(_) => (0..random.below(20)).map(|_| *random.pick(&["00", "ff", "5a"])).collect(),
            _ => {
                let (least, most) = self.range();
                let edges = [least, most, 0, 1, -1].map(|units| units.clamp(least, most));
                let between = random.between(least, most);
                self.written(if random.percent(40) { *random.pick(&edges) } else { between })
            }
        }
    }

    /// Values of which rounding, cutting or folding would make one.
    pub fn neighbours(self, count: usize, random: &mut Random) -> Vec<String> {
        let alike = random.percent(50);
        match self {
            Self::Text(_) if random.percent(30) => WORDS.iter().take(count).map(|word| (*word).to_owned()).collect(),
            Self::Text(_) => {
                let prefix = random.pick(&["", "a", "Ä ", "\u{10FFFF}"]).repeat(if alike { 70 } else { 1 });
                (0..count).map(|i| format!("{prefix}{i}")).collect()
            }
            Self::Binary(bytes) => {
                let digits = 2 * bytes;
                let zeros = "00".repeat(bytes);
                let ends_with_zeros = |i: usize| format!("{:02x}{:02x}{zeros}", i % 256, i / 256);
                let hex = |i: usize| if alike { ends_with_zeros(i) } else { format!("{i:0digits$x}") };
                (0..count).map(|i| hex(i)[..digits].to_owned()).collect()
            }
            Self::Bytes(_) => {
                let prefix = "ff".repeat(if alike { 70 } else { 0 });
                (0..count).map(|i| format!("{prefix}{i:04x}")).collect()
            }
            _ => {
                let (least, most) = self.range();
                let anywhere = random.between(least, most);
                let wide = i128::try_from(count).expect("a small number");
                let first = *random.pick(&[least, most - wide + 1, -1, (1 << 53) - 1, anywhere]);
                let first = first.min(most - wide + 1).max(least);
                (first..first + wide).filter(|units| *units <= most).map(|units| self.written(units)).collect()
            }
        }
    }

    /// The least and the most units of a value, which are its last digits.
    fn range(self) -> (i128, i128) {
        const DAYS: (i128, i128) = (-354_285, 2_932_896);
        const DAY: i128 = 86_400;
        let power = |digits: u32| 10_i128.pow(digits);
        match self {
            Self::Integer { bits, unsigned: true, .. } | Self::Bit(bits) => (0, (1 << bits) - 1),
            Self::Integer { bits, .. } => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            Self::Decimal { precision, .. } => (1 - power(precision.min(38)), power(precision.min(38)) - 1),
            // eighths, which both hold exactly
            Self::Float | Self::Double => (-(1 << 23), 1 << 23),
            // what MySQL supports: the years 1000 to 9999
            Self::Date => DAYS,
            Self::Datetime(digits) => (DAYS.0 * DAY * power(digits), (DAYS.1 + 1) * DAY * power(digits) - 1),
            Self::Timestamp(digits) => (power(digits), (i128::from(i32::MAX) + 1) * power(digits) - 1),
            Self::Time(digits) => (-3_020_399 * power(digits), 3_020_399 * power(digits)),
            Self::Year => (1901, 2155),
            Self::Text(_) | Self::Binary(_) | Self::Bytes(_) => panic!("{self:?} has no units"),
        }
    }

    fn written(self, units: i128) -> String {
        let time = |digits: u32, form: &str| {
            let second = 10_i128.pow(digits);
            let (seconds, fraction) = (units.div_euclid(second), units.rem_euclid(second));
            let moment = chrono::DateTime::from_timestamp(i64::try_from(seconds).expect("seconds"), 0);
            moment.expect("a moment").format(form).to_string() + &fraction_text(fraction, digits)
        };
        match self {
            Self::Bit(1) => units.to_string(),
            Self::Bit(_) => format!("0x{units:x}"),
            Self::Decimal { scale, .. } => {
                let (whole, fraction) = (units.unsigned_abs() / 10_u128.pow(scale), units.abs() % 10_i128.pow(scale));
                format!("{}{whole}{}", if units < 0 { "-" } else { "" }, fraction_text(fraction, scale))
            }
            #[expect(clippy::cast_precision_loss, reason = "few enough for a float")]
            Self::Float | Self::Double => (units as f64 / 8.0).to_string(),
            Self::Date => Self::Datetime(0).written(units * 86_400)[..10].to_owned(),
            Self::Datetime(digits) | Self::Timestamp(digits) => time(digits, "%Y-%m-%d %H:%M:%S"),
            Self::Time(digits) => {
                let (seconds, fraction) = (units.abs() / 10_i128.pow(digits), units.abs() % 10_i128.pow(digits));
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                let sign = if units < 0 { "-" } else { "" };
                format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction_text(fraction, digits))
            }
            _ => units.to_string(),
        }
    }
}

fn fraction_text(fraction: i128, digits: u32) -> String {
    if digits == 0 { String::new() } else { format!(".{fraction:0width$}", width = digits as usize) }
}
