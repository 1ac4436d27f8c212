//! Thumbnails of images. Pushed as `thumbnail`:
//!
//! ```python
//! jpeg = base64.b64encode(open("photo.jpg", "rb").read()).decode()
//! thumbnail.thumbnail.delay(jpeg, 200)            # base64 of a JPEG, at most 200 pixels wide and high
//! thumbnail.thumbnail.delay(jpeg, 200, "png")
//! ```
//!
//! Decoders of image files are a classic way into a server. Here they run in a sandbox, and an image that
//! unpacks to gigabytes hits a limit instead of the machine.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use petiole::Error;

/// Pixels of the largest side that is decoded.
const MAX_SOURCE_SIDE: u32 = 16_384;
/// Bytes that decoding may take.
const MAX_SOURCE_BYTES: u64 = 256 << 20;
/// Pixels of the largest side that can be asked for.
const MAX_SIDE: u32 = 4_096;
const JPEG_QUALITY: u8 = 82;

/// The format of the thumbnail.
#[derive(Clone, Copy, Debug, PartialEq, petiole::Type)]
enum Format {
    Jpeg,
    Png,
}

/// Scales a JPEG, PNG or WebP image down to at most `max_side` pixels wide and high, and keeps its
/// proportions. A smaller image keeps its size. The thumbnail is a JPEG unless PNG is asked for.
#[petiole::task]
fn thumbnail(image: Vec<u8>, max_side: u32, format: Option<Format>) -> Result<Vec<u8>, Error> {
    if !(1..=MAX_SIDE).contains(&max_side) {
        return Err(Error::fail(
            "ValueError",
            format!("max_side is {max_side}: take 1 to {MAX_SIDE}"),
        ));
    }
    let image = decode(image)?;
    let image = if image.width().max(image.height()) > max_side {
        image.thumbnail(max_side, max_side)
    } else {
        image
    };
    encode(&image, format.unwrap_or(Format::Jpeg))
}

fn decode(bytes: Vec<u8>) -> Result<DynamicImage, Error> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format().is_none() {
        return Err(Error::fail("ValueError", "not a JPEG, PNG or WebP image"));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SOURCE_SIDE);
    limits.max_image_height = Some(MAX_SOURCE_SIDE);
    limits.max_alloc = Some(MAX_SOURCE_BYTES);
    reader.limits(limits);
    Ok(reader.decode()?)
}

fn encode(image: &DynamicImage, format: Format) -> Result<Vec<u8>, Error> {
    let mut bytes = Cursor::new(Vec::new());
    match format {
        // JPEG knows no transparency.
        Format::Jpeg => image
            .to_rgb8()
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?,
        Format::Png => image.write_to(&mut bytes, ImageFormat::Png)?,
    }
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GenericImageView, RgbaImage};

    fn png(width: u32, height: u32) -> Vec<u8> {
        let image = RgbaImage::from_fn(width, height, |x, _| {
            if x < width / 2 {
                [200, 0, 0, 255].into()
            } else {
                [0, 0, 200, 255].into()
            }
        });
        encode(&DynamicImage::ImageRgba8(image), Format::Png).unwrap()
    }

    #[test]
    fn keeps_the_proportions_and_the_picture() {
        let made =
            image::load_from_memory(&thumbnail(png(400, 200), 100, Some(Format::Png)).unwrap())
                .unwrap();
        assert_eq!(made.dimensions(), (100, 50));
        assert_eq!(
            (made.get_pixel(10, 25).0, made.get_pixel(90, 25).0),
            ([200, 0, 0, 255], [0, 0, 200, 255])
        );
    }

    #[test]
    fn makes_a_jpeg_and_never_enlarges() {
        let made = thumbnail(png(40, 20), 100, None).unwrap();
        assert_eq!(image::guess_format(&made).unwrap(), ImageFormat::Jpeg);
        assert_eq!(
            image::load_from_memory(&made).unwrap().dimensions(),
            (40, 20)
        );
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let not_an_image = thumbnail(b"GIF? no".to_vec(), 100, None);
        assert_eq!(
            not_an_image,
            Err(Error::fail("ValueError", "not a JPEG, PNG or WebP image"))
        );
        assert!(thumbnail(png(4, 4), 0, None).is_err());
        let mut cut_off = png(400, 200);
        cut_off.truncate(60);
        assert!(thumbnail(cut_off, 100, None).is_err());
    }
}
