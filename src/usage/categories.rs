//! Twilio's usage categories of telephony: those that something is counted in, and the others, which have zeros.

use super::{TriggerBy, Used, money};

/// A category of Twilio's, with its units, and the categories of the ledger that are in it.
#[derive(Debug)]
pub struct Category {
    pub name: &'static str,
    pub description: &'static str,
    pub usage_unit: &'static str,
    pub count_unit: &'static str,
    pub of: &'static [&'static str],
}

/// What lines of the ledger are of.
pub const LEAVES: &[&str] = &[
    "calls-inbound",
    "calls-outbound",
    "calls-client",
    "calls-sip-inbound",
    "calls-sip-outbound",
    "calls-recordings",
    "sms-inbound",
    "sms-outbound",
];

/// By name.
pub const CATEGORIES: &[Category] = &[
    category("agent-conference", "Agent Conference", "minutes", "calls", &[]),
    category("amazon-polly", "Amazon Polly", "characters", "characters", &[]),
    category("answering-machine-detection", "Answering Machine Detection", "calls", "calls", &[]),
    category("call-progess-events", "Call Progess Events", "calls", "calls", &[]),
    category("calleridlookups", "Calleridlookups", "calls", "calls", &[]),
    category(
        "calls",
        "Voice Minutes",
        "minutes",
        "calls",
        &["calls-inbound", "calls-outbound", "calls-client", "calls-sip-inbound", "calls-sip-outbound"],
    ),
    category("calls-client", "Client Minutes", "minutes", "calls", &["calls-client"]),
    category("calls-globalconference", "Calls Globalconference", "minutes", "calls", &[]),
    category("calls-inbound", "Inbound Voice Minutes", "minutes", "calls", &["calls-inbound"]),
    category("calls-inbound-local", "Calls Inbound Local", "minutes", "calls", &[]),
    category("calls-inbound-mobile", "Calls Inbound Mobile", "minutes", "calls", &[]),
    category("calls-inbound-tollfree", "Calls Inbound Tollfree", "minutes", "calls", &[]),
    category("calls-outbound", "Outbound Voice Minutes", "minutes", "calls", &["calls-outbound"]),
    category("calls-pay-verb-transactions", "Calls Pay Verb Transactions", "calls", "calls", &[]),
    category("calls-recordings", "Call Recordings", "minutes", "recordings", &["calls-recordings"]),
    category("calls-sip", "SIP Minutes", "minutes", "calls", &["calls-sip-inbound", "calls-sip-outbound"]),
    category("calls-sip-inbound", "Inbound SIP Minutes", "minutes", "calls", &["calls-sip-inbound"]),
    category("calls-sip-outbound", "Outbound SIP Minutes", "minutes", "calls", &["calls-sip-outbound"]),
    category("calls-transfers", "Call Transfers", "transfers", "transfers", &[]),
    category("cps", "CPS", "units", "units", &[]),
    category("mediastorage", "Mediastorage", "megabytes", "megabytes", &[]),
    category("mms", "MMS", "messages", "messages", &[]),
    category("mms-inbound", "Inbound MMS", "messages", "messages", &[]),
    category("mms-inbound-longcode", "MMS Inbound Longcode", "messages", "messages", &[]),
    category("mms-inbound-shortcode", "MMS Inbound Shortcode", "messages", "messages", &[]),
    category("mms-messages-carrierfees", "MMS Messages Carrierfees", "messages", "messages", &[]),
    category("mms-outbound", "Outbound MMS", "messages", "messages", &[]),
    category("mms-outbound-longcode", "MMS Outbound Longcode", "messages", "messages", &[]),
    category("mms-outbound-shortcode", "MMS Outbound Shortcode", "messages", "messages", &[]),
    category("phonenumbers", "Phone Numbers", "numbers", "numbers", &[]),
    category("phonenumbers-cps", "Phonenumbers CPS", "numbers", "numbers", &[]),
    category("phonenumbers-emergency", "Phonenumbers Emergency", "numbers", "numbers", &[]),
    category("phonenumbers-local", "Phonenumbers Local", "numbers", "numbers", &[]),
    category("phonenumbers-mobile", "Phonenumbers Mobile", "numbers", "numbers", &[]),
    category("phonenumbers-setups", "Phonenumbers Setups", "numbers", "numbers", &[]),
    category("phonenumbers-tollfree", "Phonenumbers Tollfree", "numbers", "numbers", &[]),
    category("pstnconnectivity", "Pstnconnectivity", "units", "units", &[]),
    category("pv-sip-endpoint-registrations", "PV SIP Endpoint Registrations", "units", "units", &[]),
    category("recordings", "Recordings", "minutes", "recordings", &["calls-recordings"]),
    category("recordingstorage", "Recording Storage", "minutes", "minutes", &[]),
    category("shortcodes", "Shortcodes", "shortcodes", "shortcodes", &[]),
    category("shortcodes-customerowned", "Shortcodes Customerowned", "shortcodes", "shortcodes", &[]),
    category("shortcodes-mms-enablement", "Shortcodes MMS Enablement", "shortcodes", "shortcodes", &[]),
    category("shortcodes-mps", "Shortcodes MPS", "shortcodes", "shortcodes", &[]),
    category("shortcodes-random", "Shortcodes Random", "shortcodes", "shortcodes", &[]),
    category("shortcodes-uk", "Shortcodes UK", "shortcodes", "shortcodes", &[]),
    category("shortcodes-vanity", "Shortcodes Vanity", "shortcodes", "shortcodes", &[]),
    category("sms", "SMS", "messages", "messages", &["sms-inbound", "sms-outbound"]),
    category("sms-inbound", "Inbound SMS", "messages", "messages", &["sms-inbound"]),
    category("sms-inbound-longcode", "SMS Inbound Longcode", "messages", "messages", &[]),
    category("sms-inbound-shortcode", "SMS Inbound Shortcode", "messages", "messages", &[]),
    category("sms-messages-carrierfees", "SMS Messages Carrierfees", "messages", "messages", &[]),
    category("sms-messages-features", "SMS Messages Features", "messages", "messages", &[]),
    category("sms-messages-features-senderid", "SMS Messages Features Senderid", "messages", "messages", &[]),
    category("sms-outbound", "Outbound SMS", "messages", "messages", &["sms-outbound"]),
    category("sms-outbound-content-inspection", "SMS Outbound Content Inspection", "messages", "messages", &[]),
    category("sms-outbound-longcode", "SMS Outbound Longcode", "messages", "messages", &[]),
    category("sms-outbound-shortcode", "SMS Outbound Shortcode", "messages", "messages", &[]),
    category("speech-recognition", "Speech Recognition", "minutes", "minutes", &[]),
    category("totalprice", "Total Price", "usd", "", LEAVES),
    category("transcriptions", "Transcriptions", "minutes", "transcriptions", &[]),
    category("trunking-cps", "Trunking CPS", "units", "units", &[]),
    category("trunking-emergency-calls", "Trunking Emergency Calls", "minutes", "calls", &[]),
    category("trunking-origination", "Trunking Origination", "minutes", "calls", &[]),
    category("trunking-origination-local", "Trunking Origination Local", "minutes", "calls", &[]),
    category("trunking-origination-mobile", "Trunking Origination Mobile", "minutes", "calls", &[]),
    category("trunking-origination-tollfree", "Trunking Origination Tollfree", "minutes", "calls", &[]),
    category("trunking-recordings", "Trunking Recordings", "minutes", "recordings", &[]),
    category("trunking-secure", "Trunking Secure", "minutes", "calls", &[]),
    category("trunking-termination", "Trunking Termination", "minutes", "calls", &[]),
    category("tts-google", "TTS Google", "characters", "characters", &[]),
    category("turnmegabytes", "TURN Megabytes", "megabytes", "megabytes", &[]),
    category("turnmegabytes-australia", "Turnmegabytes Australia", "megabytes", "megabytes", &[]),
    category("turnmegabytes-brasil", "Turnmegabytes Brasil", "megabytes", "megabytes", &[]),
    category("turnmegabytes-germany", "Turnmegabytes Germany", "megabytes", "megabytes", &[]),
    category("turnmegabytes-india", "Turnmegabytes India", "megabytes", "megabytes", &[]),
    category("turnmegabytes-ireland", "Turnmegabytes Ireland", "megabytes", "megabytes", &[]),
    category("turnmegabytes-japan", "Turnmegabytes Japan", "megabytes", "megabytes", &[]),
    category("turnmegabytes-singapore", "Turnmegabytes Singapore", "megabytes", "megabytes", &[]),
    category("turnmegabytes-useast", "Turnmegabytes Useast", "megabytes", "megabytes", &[]),
    category("turnmegabytes-uswest", "Turnmegabytes Uswest", "megabytes", "megabytes", &[]),
    category("voice-insights", "Voice Insights", "units", "units", &[]),
    category("voice-intelligence", "Voice Intelligence", "units", "units", &[]),
    category("voice-intelligence-operators", "Voice Intelligence Operators", "units", "units", &[]),
    category("voice-intelligence-transcription", "Voice Intelligence Transcription", "units", "units", &[]),
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

/// What was used of a category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    /// In the unit of the category.
    pub usage: u64,
    /// Millionths.
    pub price: i64,
}

impl Category {
    pub fn named(name: &str) -> Option<&'static Category> {
        CATEGORIES.iter().find(|category| category.name == name)
    }

    /// What was used of it, all parts together.
    pub fn sum<'a>(&self, used: impl IntoIterator<Item = &'a Used>) -> Sum {
        let own = used.into_iter().filter(|one| self.of.contains(&one.category.as_str()));
        own.fold(Sum::default(), |sum, one| sum.and(one))
    }
}

impl Sum {
    fn and(self, one: &Used) -> Sum {
        Sum { count: self.count + one.count, usage: self.usage + one.usage, price: self.price + one.price }
    }

    /// What a trigger compares, in millionths.
    pub fn by(&self, by: TriggerBy) -> i64 {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(money::ONE);
        match by {
            TriggerBy::Count => whole(self.count),
            TriggerBy::Usage => whole(self.usage),
            TriggerBy::Price => self.price,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_parents_are_made_of_leaves() {
        assert!(CATEGORIES.windows(2).all(|two| two[0].name < two[1].name));
        for category in CATEGORIES {
            assert!(category.of.iter().all(|part| LEAVES.contains(part)), "{}", category.name);
        }
        for leaf in LEAVES {
            assert_eq!(Category::named(leaf).map(|category| category.of), Some([*leaf].as_slice()));
        }
    }

    #[test]
    fn sum_is_that_of_all_parts() {
        let used =
            |category: &str, count, usage, price| Used { category: category.into(), day: 1, count, usage, price };
        let used =
            [used("calls-inbound", 2, 5, 10), used("calls-outbound", 1, 3, 700), used("calls-recordings", 9, 9, 1)];
        let sum = |name: &str| Category::named(name).map(|category| category.sum(&used)).unwrap_or_default();
        assert_eq!(sum("calls"), Sum { count: 3, usage: 8, price: 710 });
        assert_eq!(sum("calls").by(TriggerBy::Usage), 8 * money::ONE);
        assert_eq!(sum("totalprice").by(TriggerBy::Price), 711);
        assert_eq!(sum("mms"), Sum::default());
    }
}
