//! The few calls that the Rust binding does not offer: header names that are not UTF-8 (the binding
//! panics on them), whose the group's offsets are, a group membership's generation, what waits to be polled, and whether a message was sent.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    ptr, slice,
};

use rdkafka::{
    ClientContext, TopicPartitionList, bindings as sys,
    client::Client,
    message::{BorrowedMessage, OwnedHeaders},
};

use super::mark::Committed;
use crate::activity::Header;

/// The headers of a message, names as bytes. A name that holds a NUL ends there: librdkafka does not tell how long it is.
/// [`Header::unreadable`] where librdkafka reads none of them, as where there are more than 100,000.
#[must_use]
pub fn headers_of(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut native = ptr::null_mut();
    // SAFETY: the message is alive, and so are its headers while it is.
    let error = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut native) };
    match error {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR if !native.is_null() => {}
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        | sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => return Vec::new(),
        _ => return vec![Header::unreadable()],
    }
    // SAFETY: as above.
    let count = unsafe { sys::rd_kafka_header_cnt(native) };
    let mut headers = Vec::with_capacity(count);
    for index in 0..count {
        // Librdkafka keeps them in an array, so this does not search.
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: librdkafka sets the three where it reports no error; `name` is NUL-terminated.
        unsafe {
            let error =
                sys::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size);
            if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            headers.push(Header {
                name: CStr::from_ptr(name).to_bytes().to_vec().into(),
                value: (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size).to_vec()),
            });
        }
    }
    headers
}

/// Headers for a record that is to be produced.
///
/// # Panics
///
/// Where librdkafka has no memory left.
#[must_use]
pub fn to_native(headers: &[Header]) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for header in headers {
        match std::str::from_utf8(&header.name) {
            Ok(name) => {
                owned = owned.insert(rdkafka::message::Header { key: name, value: header.value.as_deref() });
            }
            Err(_) => add_bytes(&owned, header),
        }
    }
    owned
}

/// Adds a header whose name is not UTF-8.
fn add_bytes(owned: &OwnedHeaders, header: &Header) {
    // The binding's borrowed headers are the native ones behind a reference of another type.
    let native = ptr::from_ref(owned.as_borrowed()).cast_mut().cast::<sys::rd_kafka_headers_t>();
    let (value, size) = match &header.value {
        Some(value) => (value.as_ptr().cast::<c_void>(), value.len()),
        None => (ptr::null(), 0),
    };
    // SAFETY: `owned` owns the writable native headers; name and value are copied during the call.
    let error = unsafe {
        sys::rd_kafka_header_add(
            native,
            header.name.as_ptr().cast(),
            isize::try_from(header.name.len()).expect("shorter than the address space"),
            value,
            isize::try_from(size).expect("shorter than the address space"),
        )
    };
    assert!(
        error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        "librdkafka refuses a header: {error:?}"
    );
}

/// Generation and member id of a consumer; `None` before it has joined a group.
#[must_use]
pub fn generation<C: ClientContext>(client: &Client<C>) -> Option<(i32, String)> {
    // SAFETY: the client is alive; the metadata is a copy that is destroyed here.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(client.native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = sys::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member = if member.is_null() {
            String::new()
        } else {
            CStr::from_ptr(member).to_string_lossy().into_owned()
        };
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        (generation >= 0 && !member.is_empty()).then_some((generation, member))
    }
}

/// The group's offsets in a list, with what their metadata says of who committed them; `None` where there is none. The
/// binding panics on metadata that is not UTF-8.
#[must_use]
pub fn committed(list: &TopicPartitionList) -> Vec<(i32, Option<Committed>)> {
    // SAFETY: the list is alive, and holds as many elements as it says.
    let elements = unsafe {
        let list = list.ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        if count == 0 { &[][..] } else { slice::from_raw_parts((*list).elems, count) }
    };
    let read = |element: &sys::rd_kafka_topic_partition_t| {
        let metadata = if element.metadata.is_null() || element.metadata_size == 0 {
            &[][..]
        } else {
            // SAFETY: the element owns so many bytes there.
            unsafe { slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }
        };
        let committed = (element.offset >= 0).then(|| Committed::read(element.offset, metadata));
        (element.partition, committed)
    };
    elements.iter().map(read).collect()
}

/// How many messages and events wait to be polled by this consumer. The binding's poll tells an event that it took as
/// nothing, and so does not say whether that was all.
#[must_use]
pub fn waiting<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the client is alive; the reference to its queue is given back here.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(client.native_ptr());
        if queue.is_null() {
            return 0;
        }
        let length = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        length
    }
}

/// Whether the broker may have a message that was not delivered, by what librdkafka noted of it when it sent it.
#[must_use]
pub fn was_sent(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive; a field of it is read.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// The end of a partition as the last fetch told it.
#[must_use]
pub fn known_end<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive; librdkafka reads its own cache and fills in the two numbers.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
