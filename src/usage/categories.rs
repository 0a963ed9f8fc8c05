//! Twilio's usage categories, as far as anything here is counted in them, and some that programs ask for.

use super::Used;

/// A category of Twilio's, with its units, and the categories of the ledger that are in it.
pub struct Category {
    pub name: &'static str,
    pub description: &'static str,
    pub usage_unit: &'static str,
    pub count_unit: &'static str,
    pub of: &'static [&'static str],
}

/// A category that nothing is counted in has zeros.
pub const CATEGORIES: &[Category] = &[
    category("calls", "Voice Minutes", "minutes", "calls", &["calls-inbound", "calls-outbound"]),
    category("calls-inbound", "Inbound Voice Minutes", "minutes", "calls", &["calls-inbound"]),
    category("calls-outbound", "Outbound Voice Minutes", "minutes", "calls", &["calls-outbound"]),
    category("calls-client", "Client Minutes", "minutes", "calls", &["calls-client"]),
    category("calls-sip", "SIP Minutes", "minutes", "calls", &["calls-sip"]),
    category("calls-recordings", "Call Recordings", "minutes", "recordings", &["calls-recordings", "recordings"]),
    category("recordings", "Recordings", "minutes", "recordings", &["calls-recordings", "recordings"]),
    category("recordingstorage", "Recording Storage", "minutes", "minutes", &["recordingstorage"]),
    category("transcriptions", "Transcriptions", "minutes", "transcriptions", &["transcriptions"]),
    category(
        "answering-machine-detection",
        "Answering Machine Detection",
        "calls",
        "calls",
        &["answering-machine-detection"],
    ),
    category("phonenumbers", "Phone Numbers", "numbers", "numbers", &["phonenumbers"]),
    category("sms", "Messages", "messages", "messages", &["sms-inbound", "sms-outbound"]),
    category("sms-inbound", "Inbound Messages", "messages", "messages", &["sms-inbound"]),
    category("sms-outbound", "Outbound Messages", "messages", "messages", &["sms-outbound"]),
    category("mms", "Media Messages", "messages", "messages", &["mms"]),
    category("trunking-origination", "Trunking Origination", "minutes", "calls", &["trunking-origination"]),
    category("trunking-termination", "Trunking Termination", "minutes", "calls", &["trunking-termination"]),
    category("totalprice", "Total Price", "usd", "", &[]),
];

const fn category(
    name: &'static str,
    description: &'static str,
    usage_unit: &'static str,
    count_unit: &'static str,
    of: &'static [&'static str],
) -> Category {
    Category { name, description, usage_unit, count_unit, of }
}

impl Category {
    pub fn named(name: &str) -> Option<&'static Category> {
        CATEGORIES.iter().find(|category| category.name == name)
    }

    /// How often, and how much in its unit.
    pub fn sum(&self, used: &[Used]) -> (u64, u64) {
        let own = used.iter().filter(|one| self.of.contains(&one.category.as_str()));
        let (count, minutes) = own.fold((0, 0), |sum, one| (sum.0 + one.count, sum.1 + one.minutes));
        (count, if self.usage_unit == "minutes" { minutes } else { count })
    }
}
