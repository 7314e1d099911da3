//! Limits on bandwidth as they are typed: they count instead of the configuration's.

use backends::Rates;
use clap::Args;

/// `--limit-upload`, `--limit-download`.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct LimitArguments {
    /// Write no more than so much a second to all locations together, as in 2MiB/s [default: upload_limit of the
    /// configuration].
    #[arg(long, value_name = "RATE", value_parser = config::rate)]
    limit_upload: Option<u64>,
    /// Read no more than so much a second from all locations together [default: download_limit of the configuration].
    #[arg(long, value_name = "RATE", value_parser = config::rate)]
    limit_download: Option<u64>,
}

impl LimitArguments {
    /// What was typed.
    pub(crate) fn rates(self) -> Rates {
        Rates { upload: self.limit_upload, download: self.limit_download }
    }
}
