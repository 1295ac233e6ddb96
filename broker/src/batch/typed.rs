//! Recipes over serde: a function from one type to another, in JSON or postcard.
//!
//! A payload that is not of the type is `VALIDATION_ERROR`: it says what was expected, what was
//! found and where, and the function is not called.

use std::{future::Future, marker::PhantomData};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Error, Inline, InlineContext, Recipe, Reply};

mod decode;

/// A recipe from JSON to JSON.
///
/// ```
/// use tollgate_broker::batch::{Catalog, Context, Error, Spec, typed};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sum = typed::json(|_: Context, terms: Vec<i64>| async move {
///     terms.iter().try_fold(0_i64, |a, b| a.checked_add(*b)).ok_or(Error::validation("too large"))
/// });
/// let catalog = Catalog::builder().recipe("sum", Spec::json(), sum).build()?;
/// # Ok(())
/// # }
/// ```
pub fn json<F, I, O, Fut>(f: F) -> Json<F, I>
where
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    Json(f, PhantomData)
}

/// A recipe from postcard to postcard.
pub fn postcard<F, I, O, Fut>(f: F) -> Postcard<F, I>
where
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    Postcard(f, PhantomData)
}

/// A recipe from bytes to whatever is a [`Reply`], such as [`Bytes`], `Vec<u8>` or `String`.
pub fn bytes<F, O, Fut>(f: F) -> Raw<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    O: Into<Reply> + Send,
{
    Raw(f)
}

/// A recipe from JSON to JSON that answers at once; see [`Inline`] for what that asks of it.
pub fn inline_json<F, I, O>(f: F) -> Json<F, I>
where
    F: Fn(&InlineContext<'_>, I) -> Result<O, Error> + Send + Sync + 'static,
    I: DeserializeOwned + 'static,
    O: Serialize,
{
    Json(f, PhantomData)
}

/// A recipe from postcard to postcard that answers at once.
pub fn inline_postcard<F, I, O>(f: F) -> Postcard<F, I>
where
    F: Fn(&InlineContext<'_>, I) -> Result<O, Error> + Send + Sync + 'static,
    I: DeserializeOwned + 'static,
    O: Serialize,
{
    Postcard(f, PhantomData)
}

/// A recipe from bytes that answers at once, into a [`Reply`] that the broker uses again.
pub fn inline_bytes<F>(f: F) -> Raw<F>
where
    F: Fn(&InlineContext<'_>, &[u8], &mut Reply) -> Result<(), Error> + Send + Sync + 'static,
{
    Raw(f)
}

/// A function over JSON; made by [`json`] and [`inline_json`].
pub struct Json<F, I>(F, PhantomData<fn(I)>);

/// A function over postcard; made by [`postcard`] and [`inline_postcard`].
pub struct Postcard<F, I>(F, PhantomData<fn(I)>);

/// A function over bytes; made by [`bytes`] and [`inline_bytes`].
pub struct Raw<F>(F);

impl<F, I, O, Fut> Recipe for Json<F, I>
where
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let input = decode::json(&payload)?;
        drop(payload);
        let output = self.0(ctx, input).await?;
        let mut reply = Reply::new();
        put_json(&output, &mut reply)?;
        Ok(reply)
    }
}

impl<F, I, O> Inline for Json<F, I>
where
    F: Fn(&InlineContext<'_>, I) -> Result<O, Error> + Send + Sync + 'static,
    I: DeserializeOwned + 'static,
    O: Serialize,
{
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        put_json(&self.0(ctx, decode::json(payload)?)?, out)
    }
}

impl<F, I, O, Fut> Recipe for Postcard<F, I>
where
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let input = decode::postcard(&payload)?;
        drop(payload);
        let output = self.0(ctx, input).await?;
        let mut reply = Reply::new();
        put_postcard(&output, &mut reply)?;
        Ok(reply)
    }
}

impl<F, I, O> Inline for Postcard<F, I>
where
    F: Fn(&InlineContext<'_>, I) -> Result<O, Error> + Send + Sync + 'static,
    I: DeserializeOwned + 'static,
    O: Serialize,
{
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        put_postcard(&self.0(ctx, decode::postcard(payload)?)?, out)
    }
}

impl<F, O, Fut> Recipe for Raw<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Error>> + Send,
    O: Into<Reply> + Send,
{
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        Ok(self.0(ctx, payload).await?.into())
    }
}

impl<F> Inline for Raw<F>
where
    F: Fn(&InlineContext<'_>, &[u8], &mut Reply) -> Result<(), Error> + Send + Sync + 'static,
{
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        self.0(ctx, payload, out)
    }
}

/// Reads a JSON payload as [`json`] does, for recipes that do not go through it.
///
/// # Errors
/// `VALIDATION_ERROR`, with `field` (a JSON pointer), `line`, `column` and, where they can be had,
/// `expected` and `found`.
pub fn from_json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    decode::json(payload)
}

fn put_json(output: &impl Serialize, out: &mut Reply) -> Result<(), Error> {
    serde_json::to_writer(out, output).map_err(|e| unwritable("JSON", &e))
}

fn put_postcard(output: &impl Serialize, out: &mut Reply) -> Result<(), Error> {
    ::postcard::serialize_with_flavor(output, Flavor(out)).map_err(|e| unwritable("postcard", &e))
}

/// The recipe's own fault: its output has no form in the encoding, such as a map whose keys are
/// not strings.
fn unwritable(encoding: &str, e: &dyn std::error::Error) -> Error {
    Error::internal(format!("the output can not be written as {encoding}: {e}"))
}

/// Lets postcard write into a reply.
struct Flavor<'a>(&'a mut Reply);

impl ::postcard::ser_flavors::Flavor for Flavor<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> ::postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> ::postcard::Result<()> {
        self.0.extend_from_slice(&[data]);
        Ok(())
    }

    fn finalize(self) -> ::postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
