//! How ONNX says how a kernel goes over an image.

use bellwether_fpga::compile::network::{Shape, Window};
use tract_onnx::pb::NodeProto;

use super::view;
use crate::validate::{int, ints, text};

/// A kernel's way, and the rows and columns that come out.
pub(super) struct Slide {
    pub(super) window: Window,
    /// [rows, columns]
    pub(super) out: [usize; 2],
    /// Whether places were added to the padding that the model has.
    pub(super) is_widened: bool,
}

/// A number for rows and columns each, of as many as ONNX has dimensions of space.
fn pair(list: &[i64], missing: i64) -> Option<[usize; 2]> {
    let pair = match *list {
        [columns] => [missing, columns],
        [rows, columns] => [rows, columns],
        _ => return None,
    };
    let [rows, columns] = pair.map(usize::try_from);
    Some([rows.ok()?, columns.ok()?])
}

/// The window of a convolution or a pool.
pub(super) fn slide(node: &NodeProto, shape: Shape, space: usize, kernel: [usize; 2]) -> Result<Slide, String> {
    let list = |name: &str, default: i64| match ints(node, name) {
        None => Ok([usize::try_from(default).unwrap_or(0); 2]),
        Some(list) if list.len() == space => {
            pair(list, default).ok_or_else(|| format!("its `{name}` are not positive"))
        }
        Some(list) => Err(format!("its `{name}` are {list:?} in {space} dimensions of space")),
    };
    if list("dilations", 1)? != [1, 1] {
        return Err("its kernel is dilated".to_owned());
    }
    let strides = list("strides", 1)?;
    let (before, after) = match ints(node, "pads").map(|pads| pads.split_at_checked(space)) {
        None => ([0, 0], [0, 0]),
        Some(Some((before, after))) => {
            pair(before, 0).zip(pair(after, 0)).ok_or("it cuts the image where it could fill it")?
        }
        Some(None) => return Err("its `pads` are too few".to_owned()),
    };
    let axis = |at: usize| -> Result<Along, String> {
        let of = |pair: [usize; 2]| if at == 0 { pair[0] } else { pair[1] };
        let size = usize::from(if at == 0 { shape.rows } else { shape.columns });
        along(node, size, of(kernel), of(strides), [of(before), of(after)])
    };
    let [rows, columns] = [axis(0)?, axis(1)?];
    let byte = |size: usize| u8::try_from(size).map_err(|_| format!("a stride or padding of {size}: at most 255"));
    let extent = view::shape(kernel[0], kernel[1], 1)?;
    let window = Window {
        kernel: [extent.rows, extent.columns],
        strides: [byte(strides[0])?, byte(strides[1])?],
        before: [byte(rows.before)?, byte(columns.before)?],
        after: [byte(rows.after)?, byte(columns.after)?],
    };
    let is_widened = rows.is_widened || columns.is_widened;
    Ok(Slide { window, out: [rows.out, columns.out], is_widened })
}

/// A window along one dimension.
struct Along {
    before: usize,
    after: usize,
    out: usize,
    is_widened: bool,
}

fn along(node: &NodeProto, size: usize, kernel: usize, stride: usize, pads: [usize; 2]) -> Result<Along, String> {
    if kernel == 0 || stride == 0 {
        return Err("its kernel or stride is 0".to_owned());
    }
    let [before, after] = match text(node, "auto_pad") {
        "SAME_UPPER" | "SAME_LOWER" => {
            let whole = ((size.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(size);
            let half = whole / 2;
            if text(node, "auto_pad") == "SAME_UPPER" { [half, whole - half] } else { [whole - half, half] }
        }
        "VALID" => [0, 0],
        _ => pads,
    };
    let Some(steps) = (size + before + after).checked_sub(kernel) else {
        return Err(format!("a kernel of {kernel} over {size}"));
    };
    if int(node, "ceil_mode").unwrap_or(0) == 0 {
        return Ok(Along { before, after, out: steps / stride + 1, is_widened: false });
    }
    // Rounded up, but a last window that lies wholly behind the image is none.
    let last = steps.div_ceil(stride).min((size + before).div_ceil(stride).max(1) - 1);
    let reach = (last * stride + kernel).saturating_sub(size + before);
    Ok(Along { before, after: after.max(reach), out: last + 1, is_widened: reach > after })
}
