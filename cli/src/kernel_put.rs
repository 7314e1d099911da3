//! `holdfast kernel put`: records from JSON lines, or from a file of vectors with
//! a file of texts.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use kernel_client::core::{Command, Existing, Fixed, Id, Metric, Name, Parameters, Record};
use kernel_node::{Clock, SystemClock};
use serde_json::json;

use crate::exit;
use crate::kernel::{NodeArgs, open};
use crate::output::Output;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MetricWord {
    L2,
    Cosine,
    Dot,
}

/// Arguments of `put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Collection; made if it is missing.
    #[arg(long, value_name = "NAME")]
    collection: String,
    /// Metric of a collection that is made.
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricWord,
    /// Replace records that are there.
    #[arg(long)]
    replace: bool,
    /// Records per request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// JSON lines {"id", "vector", "metadata"?, "tag"?}; `-` is stdin.
    #[arg(value_name = "FILE", required_unless_present = "vectors")]
    lines: Option<PathBuf>,
    /// Raw little-endian f32 vectors, one after the other.
    #[arg(long, value_name = "FILE", requires = "dimension", conflicts_with = "lines")]
    vectors: Option<PathBuf>,
    /// Texts of the vectors, one line each.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    texts: Option<PathBuf>,
    /// Components of each vector.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    dimension: Option<u32>,
    /// Id of the first vector; the others count up.
    #[arg(long, default_value_t = 0)]
    first_id: u64,
}

/// Where the records of `put` come from.
enum Records {
    Lines(Box<dyn BufRead>),
    Raw { vectors: Box<dyn Read>, texts: Option<Box<dyn BufRead>>, dimension: usize, next_id: u64 },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: serde_json::Value,
    vector: Vec<f32>,
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    tag: u64,
}

fn components(floats: impl IntoIterator<Item = f32>) -> Result<Box<[Fixed]>> {
    floats.into_iter().map(|float| Ok(Fixed::from_f32(float).map_err(kernel_client::core::Error::from)?)).collect()
}

impl Records {
    fn of(args: &PutArgs) -> Result<Self> {
        if let (Some(path), Some(dimension)) = (&args.vectors, args.dimension) {
            let texts = match &args.texts {
                Some(path) => Some(Box::new(BufReader::new(open(path)?)) as Box<dyn BufRead>),
                None => None,
            };
            let vectors = Box::new(BufReader::new(open(path)?));
            return Ok(Records::Raw { vectors, texts, dimension: dimension as usize, next_id: args.first_id });
        }
        match args.lines.as_deref() {
            Some(path) if path != Path::new("-") => Ok(Records::Lines(Box::new(BufReader::new(open(path)?)))),
            Some(_) | None => Ok(Records::Lines(Box::new(BufReader::new(std::io::stdin())))),
        }
    }

    fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Records::Lines(lines) => next_line(lines.as_mut()),
            Records::Raw { vectors, texts, dimension, next_id } => {
                let Some(vector) = next_vector(vectors.as_mut(), *dimension)? else { return Ok(None) };
                let mut text = String::new();
                if let Some(texts) = texts {
                    texts.read_line(&mut text)?;
                }
                let metadata = text.trim_end_matches('\n').as_bytes().into();
                let id = Id::from_u64(*next_id);
                *next_id += 1;
                Ok(Some(Record { id, tag: 0, metadata, vector }))
            }
        }
    }
}

fn next_line(lines: &mut dyn BufRead) -> Result<Option<Record>> {
    let mut text = String::new();
    while text.trim().is_empty() {
        text.clear();
        if lines.read_line(&mut text)? == 0 {
            return Ok(None);
        }
    }
    let line: Line = serde_json::from_str(&text)?;
    let id = match line.id.as_str() {
        Some(text) => Id::parse(text)?,
        None => Id::parse(&line.id.to_string())?,
    };
    Ok(Some(Record {
        id,
        tag: line.tag,
        metadata: line.metadata.into_bytes().into(),
        vector: components(line.vector)?,
    }))
}

fn next_vector(vectors: &mut dyn Read, dimension: usize) -> Result<Option<Box<[Fixed]>>> {
    let mut bytes = vec![0; dimension * 4];
    let mut filled = 0;
    while filled < bytes.len() {
        match vectors.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => bail!("the vectors end inside one: is --dimension right?"),
            count => filled += count,
        }
    }
    let (words, _) = bytes.as_chunks::<4>();
    Ok(Some(components(words.iter().map(|word| f32::from_le_bytes(*word)))?))
}

/// Puts records in batches; the last answer's state hash is said.
pub(crate) async fn put(output: Output, args: PutArgs) -> Result<u8> {
    let client = args.node.client()?;
    let collection = Name::new(&args.collection)?;
    let existing = if args.replace { Existing::Replace } else { Existing::Refuse };
    let batch = usize::from(args.batch);
    let mut source = Records::of(&args)?;
    let mut known = client.state().await?.collections.iter().any(|found| found.name == args.collection);
    let (mut total, mut last) = (0, None);
    loop {
        let mut records = Vec::with_capacity(batch);
        while records.len() < batch
            && let Some(record) = source.next().with_context(|| format!("record {}", total + records.len() + 1))?
        {
            records.push(record);
        }
        let Some(first) = records.first() else { break };
        if !known {
            client.apply(&create(&collection, first.vector.len(), args.metric)).await?;
            known = true;
        }
        let end = total + records.len();
        let command = Command::PutRecords { collection: collection.clone(), existing, records };
        let refused = || format!("records {} to {end} were not put; {total} before them were", total + 1);
        last = Some(client.apply(&command).await.with_context(refused)?);
        total = end;
    }
    match &last {
        None => output.say("nothing to put"),
        Some(written) => {
            output
                .say(format!("put {total} records; sequence {}, state hash {}", written.sequence, written.state_hash));
        }
    }
    output.summary(
        exit::OK,
        json!({ "records": total, "sequence": last.as_ref().map(|written| written.sequence),
                "state_hash": last.as_ref().map(|written| written.state_hash.to_string()) }),
    );
    Ok(exit::OK)
}

fn create(name: &Name, dimension: usize, metric: MetricWord) -> Command {
    Command::CreateCollection {
        name: name.clone(),
        dimension: u32::try_from(dimension).unwrap_or(u32::MAX),
        metric: match metric {
            MetricWord::L2 => Metric::L2,
            MetricWord::Cosine => Metric::Cosine,
            MetricWord::Dot => Metric::Dot,
        },
        parameters: Parameters::default(),
        created_at: SystemClock.now_ms(),
        metadata: Box::default(),
    }
}
