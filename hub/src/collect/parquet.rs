//! Rows as Parquet: written and read by column, without Arrow.
//!
//! ```text
//!  device, outbox, reason      string        at, taken_at   timestamp in ms, UTC
//!  site                        string, may be null
//!  sequence                    int64
//!  input.NAME, output.NAME     list of the tensor's elements, flat
//! ```
//! Model, version and date are columns by the folders that a file lies in, and not again inside
//! it: `pandas.read_parquet` refuses a folder whose files repeat them. So that a file taken out of
//! its folder still says what it is, its metadata names the version and the whole signature.

use std::sync::Arc;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::manifest::DataType;
use bellwether_protocol::time::Millis;
use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType as Column, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::Collected;
use super::tensor::{Signature, Spec, Values};

/// Metadata of a file: the version, such as `digits:3`.
const MODEL: &str = "bellwether.model";
/// Metadata of a file: the signature as JSON.
const SIGNATURE: &str = "bellwether.signature";
/// 9999-12-31T23:59:59.999Z: a device's clock may stand anywhere, readers' calendars end here.
const LAST_MS: u64 = 253_402_300_799_999;
/// Columns before those of the tensors.
const FIXED: usize = 7;

type File = SerializedFileWriter<Vec<u8>>;
type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// Writes rows of one version into the bytes of a file.
///
/// # Errors
///
/// If a row's tensors are not those of the signature.
pub(crate) fn write(model: &ModelRef, signature: &Signature, rows: &[Collected]) -> Result<Vec<u8>> {
    let json = serde_json::to_string(signature).map_err(|fault| ParquetError::General(fault.to_string()))?;
    let metadata = vec![KeyValue::new(MODEL.to_owned(), model.to_string()), KeyValue::new(SIGNATURE.to_owned(), json)];
    let properties = WriterProperties::builder()
        .set_created_by(concat!("bellwether ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(metadata));
    let mut file = File::new(Vec::new(), schema(signature)?, Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    let text = |of: &dyn Fn(&Collected) -> String| -> Vec<ByteArray> {
        rows.iter().map(|row| ByteArray::from(of(row).into_bytes())).collect()
    };
    put::<ByteArrayType>(&mut group, &text(&|row| row.device.clone()), None)?;
    let sites: Vec<ByteArray> = rows.iter().filter_map(|row| row.site.as_deref()).map(ByteArray::from).collect();
    let has_site: Vec<i16> = rows.iter().map(|row| i16::from(row.site.is_some())).collect();
    put::<ByteArrayType>(&mut group, &sites, Some((&has_site, None)))?;
    put::<Int64Type>(&mut group, &rows.iter().map(|row| moment(row.at)).collect::<Vec<_>>(), None)?;
    put::<Int64Type>(&mut group, &rows.iter().map(|row| moment(row.taken_at)).collect::<Vec<_>>(), None)?;
    put::<ByteArrayType>(&mut group, &text(&|row| row.reason.clone()), None)?;
    put::<ByteArrayType>(&mut group, &text(&|row| row.outbox.clone()), None)?;
    put::<Int64Type>(&mut group, &rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), None)?;
    for (index, spec) in signature.inputs.iter().enumerate() {
        put_tensor(&mut group, spec, rows.iter().map(|row| row.inputs.get(index)))?;
    }
    for (index, spec) in signature.outputs.iter().enumerate() {
        put_tensor(&mut group, spec, rows.iter().map(|row| row.outputs.get(index)))?;
    }
    group.close()?;
    file.into_inner()
}

fn moment(at: Millis) -> i64 {
    i64::try_from(at.0.min(LAST_MS)).unwrap_or_default()
}

fn schema(signature: &Signature) -> Result<TypePtr> {
    let text = |name, repetition| {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        column.with_logical_type(Some(LogicalType::String)).with_repetition(repetition).build().map(Arc::new)
    };
    let number = |name, logical| {
        let column = Type::primitive_type_builder(name, Physical::INT64);
        column.with_logical_type(logical).with_repetition(Repetition::REQUIRED).build().map(Arc::new)
    };
    let instant = || Some(LogicalType::timestamp(true, TimeUnit::MILLIS));
    let mut fields = vec![
        text("device", Repetition::REQUIRED)?,
        text("site", Repetition::OPTIONAL)?,
        number("at", instant())?,
        number("taken_at", instant())?,
        text("reason", Repetition::REQUIRED)?,
        text("outbox", Repetition::REQUIRED)?,
        number("sequence", None)?,
    ];
    for (name, spec) in signature.columns() {
        fields.push(list(&name, spec)?);
    }
    Ok(Arc::new(Type::group_type_builder("row").with_fields(fields).build()?))
}

/// The three levels that every reader takes for a list (Parquet, `LogicalTypes.md`, "Lists").
fn list(name: &str, spec: &Spec) -> Result<TypePtr> {
    let (physical, logical) = match known(spec)? {
        DataType::Bool => (Physical::BOOLEAN, None),
        DataType::Uint8 => (Physical::INT32, Some(LogicalType::integer(8, false))),
        DataType::Int8 => (Physical::INT32, Some(LogicalType::integer(8, true))),
        DataType::Int32 => (Physical::INT32, None),
        DataType::Int64 => (Physical::INT64, None),
        DataType::Fp32 => (Physical::FLOAT, None),
        DataType::Fp64 => (Physical::DOUBLE, None),
        DataType::Int16 => (Physical::INT32, Some(LogicalType::integer(16, true))),
        DataType::Uint16 => (Physical::INT32, Some(LogicalType::integer(16, false))),
        DataType::Uint32 => (Physical::INT32, Some(LogicalType::integer(32, false))),
        DataType::Uint64 => (Physical::INT64, Some(LogicalType::integer(64, false))),
    };
    let element = Type::primitive_type_builder("element", physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let list = Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(repeated)])
        .build()?;
    Ok(Arc::new(list))
}

fn known(spec: &Spec) -> Result<DataType> {
    spec.datatype().ok_or_else(|| damaged("a tensor has no type that exists"))
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// Definition levels, and repetition levels where a column repeats.
type Levels<'a> = Option<(&'a [i16], Option<&'a [i16]>)>;

fn put<T: Column>(group: &mut Group<'_>, values: &[T::T], levels: Levels<'_>) -> Result<()> {
    let mut column = group.next_column()?.ok_or_else(|| damaged("the schema has fewer columns"))?;
    let (defined, repeated) = levels.map_or((None, None), |(defined, repeated)| (Some(defined), repeated));
    column.typed::<T>().write_batch(values, defined, repeated)?;
    column.close()
}

/// One list a row, each as long as the signature says.
fn put_tensor<'a>(
    group: &mut Group<'_>,
    spec: &Spec,
    rows: impl Iterator<Item = Option<&'a Values>> + Clone,
) -> Result<()> {
    let elements = spec.elements().ok_or_else(|| damaged("a tensor is larger than memory"))?;
    // An empty list is one entry that is not defined; the first element of any other begins its row.
    let entries = elements.max(1);
    let count = rows.clone().count();
    let defined = vec![i16::from(elements > 0); entries * count];
    let repeated: Vec<i16> = (0..entries * count).map(|entry| i16::from(entry % entries != 0)).collect();
    let levels = Some((defined.as_slice(), Some(repeated.as_slice())));
    macro_rules! flat {
        ($variant:ident, $column:ty) => {{
            let mut flat = Vec::with_capacity(elements * count);
            for row in rows {
                match row {
                    Some(Values::$variant(values)) if values.len() == elements => flat.extend_from_slice(values),
                    _ => return Err(damaged("a row has other tensors than its signature")),
                }
            }
            put::<$column>(group, &flat, levels)
        }};
    }
    match known(spec)? {
        DataType::Bool => flat!(Bool, BoolType),
        DataType::Uint8 | DataType::Int8 | DataType::Int16 | DataType::Uint16 | DataType::Int32 | DataType::Uint32 => {
            flat!(Int32, Int32Type)
        }
        DataType::Int64 | DataType::Uint64 => flat!(Int64, Int64Type),
        DataType::Fp32 => flat!(Fp32, FloatType),
        DataType::Fp64 => flat!(Fp64, DoubleType),
    }
}

/// Reads a file that [`write`] wrote.
///
/// # Errors
///
/// If it is damaged, or another program wrote it.
pub(crate) fn read(bytes: Bytes) -> Result<(ModelRef, Signature, Vec<Collected>)> {
    let reader = SerializedFileReader::new(bytes)?;
    let metadata = reader.metadata().file_metadata();
    let find = |key: &str| {
        let pair = metadata.key_value_metadata()?.iter().find(|pair| pair.key == key)?;
        pair.value.clone()
    };
    let model = find(MODEL).and_then(|text| text.parse().ok());
    let signature: Option<Signature> = find(SIGNATURE).and_then(|text| serde_json::from_str(&text).ok());
    let (Some(model), Some(signature)) = (model, signature) else {
        return Err(damaged("it does not say of which version its rows are"));
    };
    if *metadata.schema() != *schema(&signature)? {
        return Err(damaged("its columns are not those of its signature"));
    }
    let mut rows = Vec::new();
    for index in 0..reader.num_row_groups() {
        read_group(reader.get_row_group(index)?.as_ref(), &signature, &mut rows)?;
    }
    Ok((model, signature, rows))
}

fn read_group(group: &dyn RowGroupReader, signature: &Signature, rows: &mut Vec<Collected>) -> Result<()> {
    let count = usize::try_from(group.metadata().num_rows()).map_err(|_| damaged("its rows cannot be counted"))?;
    let (devices, _) = take::<ByteArrayType>(group, 0, count)?;
    let (sites, has_site) = take::<ByteArrayType>(group, 1, count)?;
    let (at, _) = take::<Int64Type>(group, 2, count)?;
    let (taken_at, _) = take::<Int64Type>(group, 3, count)?;
    let (reasons, _) = take::<ByteArrayType>(group, 4, count)?;
    let (outboxes, _) = take::<ByteArrayType>(group, 5, count)?;
    let (sequences, _) = take::<Int64Type>(group, 6, count)?;
    let mut tensors = Vec::new();
    for (index, (_, spec)) in signature.columns().enumerate() {
        tensors.push(take_tensor(group, FIXED + index, spec, count)?.into_iter());
    }
    let mut sites = sites.into_iter();
    for index in 0..count {
        let short = || damaged("a column is shorter than the others");
        let text = |column: &[ByteArray]| -> Result<String> {
            column.get(index).ok_or_else(short)?.as_utf8().map(ToOwned::to_owned)
        };
        let instant = |column: &[i64]| -> Result<Millis> {
            let millis = column.get(index).copied().ok_or_else(short)?;
            Ok(Millis(u64::try_from(millis).unwrap_or_default()))
        };
        let site = match has_site.get(index) {
            Some(1) => Some(sites.next().ok_or_else(short)?.as_utf8()?.to_owned()),
            _ => None,
        };
        let mut values = tensors.iter_mut().map(|column| column.next().ok_or_else(short));
        rows.push(Collected {
            device: text(&devices)?,
            site,
            at: instant(&at)?,
            taken_at: instant(&taken_at)?,
            reason: text(&reasons)?,
            outbox: text(&outboxes)?,
            sequence: sequences.get(index).copied().ok_or_else(short)?,
            inputs: values.by_ref().take(signature.inputs.len()).collect::<Result<_>>()?,
            outputs: values.collect::<Result<_>>()?,
        });
    }
    Ok(())
}

/// The values of a column and their definition levels.
fn take<T: Column>(group: &dyn RowGroupReader, column: usize, rows: usize) -> Result<(Vec<T::T>, Vec<i16>)> {
    let reader = T::get_column_reader(group.get_column_reader(column)?);
    let mut reader = reader.ok_or_else(|| damaged("a column has another type"))?;
    let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    let (read, ..) = reader.read_records(rows, Some(&mut defined), Some(&mut repeated), &mut values)?;
    if read == rows { Ok((values, defined)) } else { Err(damaged("a column is shorter than the others")) }
}

/// The list of every row.
fn take_tensor(group: &dyn RowGroupReader, column: usize, spec: &Spec, rows: usize) -> Result<Vec<Values>> {
    let elements = spec.elements().ok_or_else(|| damaged("a tensor is larger than memory"))?;
    macro_rules! lists {
        ($variant:ident, $column:ty) => {{
            let (flat, _) = take::<$column>(group, column, rows)?;
            if Some(flat.len()) != elements.checked_mul(rows) {
                return Err(damaged("a list is longer or shorter than its tensor"));
            }
            let list = |row: usize| flat.get(row * elements..(row + 1) * elements).unwrap_or_default().to_vec();
            Ok((0..rows).map(|row| Values::$variant(list(row))).collect())
        }};
    }
    match known(spec)? {
        DataType::Bool => lists!(Bool, BoolType),
        DataType::Uint8 | DataType::Int8 | DataType::Int16 | DataType::Uint16 | DataType::Int32 | DataType::Uint32 => {
            lists!(Int32, Int32Type)
        }
        DataType::Int64 | DataType::Uint64 => lists!(Int64, Int64Type),
        DataType::Fp32 => lists!(Fp32, FloatType),
        DataType::Fp64 => lists!(Fp64, DoubleType),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensor;
    use super::*;

    fn spec(datatype: DataType, shape: &[u32]) -> Spec {
        Spec { name: datatype.name().to_lowercase(), datatype: datatype.name().to_owned(), shape: shape.to_vec() }
    }

    fn signature() -> Signature {
        let inputs = DataType::ALL.into_iter().map(|datatype| spec(datatype, &[1, 3])).collect();
        Signature { inputs, outputs: vec![spec(DataType::Fp32, &[1, 2, 2]), spec(DataType::Int64, &[1, 0])] }
    }

    /// Bytes that differ from row to row, and what stands at the ends of every type.
    fn row(signature: &Signature, number: u8) -> Collected {
        let mut inputs = vec![1, 0, 1, 0, 255, number, 0x80, 0x7f, number];
        inputs.extend([i32::MIN, i32::MAX, i32::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([i64::MIN, i64::MAX, i64::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([f32::INFINITY, f32::MIN_POSITIVE, f32::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([f64::NEG_INFINITY, f64::MAX, f64::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([i16::MIN, i16::MAX, i16::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([u16::MIN, u16::MAX, u16::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([u32::MIN, u32::MAX, u32::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        inputs.extend([u64::MIN, u64::MAX, u64::from(number)].iter().flat_map(|x| x.to_le_bytes()));
        let outputs: Vec<u8> = [0.1_f32, -0.0, 3.0, f32::from(number)].iter().flat_map(|x| x.to_le_bytes()).collect();
        Collected {
            device: format!("gw-{number}"),
            outbox: "00".repeat(16),
            sequence: i64::from(number),
            site: number.is_multiple_of(2).then(|| "Lyon, 2ᵉ".to_owned()),
            at: Millis(u64::from(number)),
            taken_at: Millis(1_700_000_000_000 + u64::from(number)),
            reason: "turn".to_owned(),
            inputs: tensor::read(&signature.inputs, &inputs).unwrap(),
            outputs: tensor::read(&signature.outputs, &outputs).unwrap(),
        }
    }

    #[test]
    fn every_type_reads_back_as_it_was_written() {
        let (signature, model) = (signature(), "digits:3".parse().unwrap());
        let rows: Vec<Collected> = (0..200).map(|number| row(&signature, number)).collect();
        let bytes = write(&model, &signature, &rows).unwrap();
        assert_eq!(read(bytes.clone().into()).unwrap(), (model.clone(), signature.clone(), rows));
        assert_eq!(write(&model, &signature, &[]).and_then(|bytes| read(bytes.into())).unwrap().2, []);
    }

    #[test]
    fn a_clock_beyond_every_calendar_is_brought_back_to_the_last_day() {
        let (signature, model) = (signature(), "digits:3".parse().unwrap());
        let late = Collected { at: Millis(u64::MAX), ..row(&signature, 1) };
        let (.., rows) = read(write(&model, &signature, &[late]).unwrap().into()).unwrap();
        assert_eq!(rows[0].at, Millis(LAST_MS));
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused_and_a_damaged_file_too() {
        let (signature, model) = (signature(), "digits:3".parse().unwrap());
        let good = row(&signature, 1);
        let bad = Collected { outputs: vec![Values::Fp32(vec![1.0]), Values::Int64(vec![])], ..good.clone() };
        assert!(write(&model, &signature, &[bad]).is_err());
        assert!(write(&model, &signature, &[Collected { inputs: vec![], ..good.clone() }]).is_err());
        let bytes = write(&model, &signature, &[good]).unwrap();
        for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(bytes[..cut].to_vec().into()).is_err(), "cut at {cut}");
        }
    }
}
