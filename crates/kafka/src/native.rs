//! Calls that the Rust binding lacks: header names that are not UTF-8 (the binding panics on them), the metadata of the
//! group's offsets, the generation of a membership, the length of the poll queue, whether a message was sent, the rights on
//! the brokers, the high watermark, and OpenSSL's reason to refuse a certificate.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr, slice,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use contract::{Header, HeaderRef};
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList, bindings as sys,
    client::Client,
    error::RDKafkaErrorCode,
    message::{BorrowedMessage, OwnedHeaders},
};

use super::mark::Committed;

/// The headers of a message, names as bytes. A name with a NUL ends there: librdkafka does not return its length.
/// [`Header::unreadable`] if librdkafka can't read them, for example more than 100,000.
#[must_use]
pub(crate) fn headers_of(message: &BorrowedMessage<'_>, mut copy: impl FnMut(&[u8]) -> Bytes) -> Vec<Header> {
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
        // SAFETY: librdkafka sets the three if it reports no error; `name` is NUL-terminated.
        unsafe {
            let error =
                sys::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size);
            if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            headers.push(Header {
                name: copy(CStr::from_ptr(name).to_bytes()),
                value: (!value.is_null()).then(|| copy(slice::from_raw_parts(value.cast::<u8>(), size))),
            });
        }
    }
    headers
}

/// Headers for a record to produce.
///
/// # Panics
///
/// If librdkafka runs out of memory.
#[must_use]
pub fn to_native<'h>(headers: impl ExactSizeIterator<Item = HeaderRef<'h>>) -> OwnedHeaders {
    let owned = OwnedHeaders::new_with_capacity(headers.len());
    // The binding's borrowed headers are the native ones behind a reference of another type.
    let native = ptr::from_ref(owned.as_borrowed()).cast_mut().cast::<sys::rd_kafka_headers_t>();
    let length = |bytes: &[u8]| isize::try_from(bytes.len()).expect("shorter than the address space");
    for (name, value) in headers {
        let (value, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), length(value)));
        // SAFETY: `owned` owns the writable native headers; name and value are copied during the call.
        let error = unsafe {
            sys::rd_kafka_header_add(native, name.as_ptr().cast(), length(name), value.cast::<c_void>(), size)
        };
        assert!(
            error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            "librdkafka refuses a header: {error:?}"
        );
    }
    owned
}

/// One past the last record of a partition, from the last fetch; `None` before the first.
#[must_use]
pub(crate) fn high_watermark<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive, the topic NUL-terminated, and librdkafka only writes the two numbers.
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

/// Generation and member id of a consumer; `None` outside a group. In the new protocol the generation is the member's epoch,
/// 0 while it joins, and the id is its own from the start.
#[must_use]
pub(crate) fn generation<C: ClientContext>(client: &Client<C>) -> Option<(i32, String)> {
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
        (generation > 0 && !member.is_empty()).then_some((generation, member))
    }
}

/// The group's offsets in a list, with the marks in their metadata; `None` without an offset. The binding panics on metadata
/// that is not UTF-8.
#[must_use]
pub(crate) fn committed(list: &TopicPartitionList) -> Vec<(i32, Option<Committed>)> {
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
            // SAFETY: the element owns that number of bytes there.
            unsafe { slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }
        };
        let committed = (element.offset >= 0).then(|| Committed::read(element.offset, metadata));
        (element.partition, committed)
    };
    elements.iter().map(read).collect()
}

/// The number of messages and events in this consumer's poll queue. The binding's poll returns nothing for an event, and so
/// does not show whether more are left.
#[must_use]
pub fn waiting<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the client is alive; the reference to its queue is released here.
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

/// Whether the broker may have an undelivered message, by librdkafka's notes.
#[must_use]
pub fn was_sent(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive; a field of it is read.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// The kind of resource for [`allowed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Described {
    Topic,
    Group,
}

/// The numbers of the operations that the brokers allow this user on a topic or group; `None` if they do not say.
///
/// # Errors
///
/// The brokers' code, or librdkafka's if they do not answer.
pub(crate) fn allowed<C: ClientContext>(
    client: &Client<C>,
    described: Described,
    name: &str,
    timeout: Duration,
) -> Result<Option<Vec<u32>>, RDKafkaErrorCode> {
    use sys::rd_kafka_admin_op_t as Request;
    // Longer than anybody waits: if the coordinator of a group can be reached only after librdkafka's own time-out,
    // librdkafka uses what it has freed, and ends the process (its issue 4605).
    const UNLIMITED_MS: c_int = 3_600_000;
    let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    let mut names = [name.as_ptr()];
    let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let request = match described {
        Described::Topic => Request::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        Described::Group => Request::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
    };
    // SAFETY: the client outlives the call; librdkafka copies names and options; what it makes is destroyed below, and
    // what it answers is read before that.
    unsafe {
        let rk = client.native_ptr();
        let options = sys::rd_kafka_AdminOptions_new(rk, request);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, UNLIMITED_MS, ptr::null_mut(), 0);
        // Fails for other requests only.
        let error = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        let queue = sys::rd_kafka_queue_new(rk);
        match described {
            Described::Topic => {
                let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
                sys::rd_kafka_TopicCollection_destroy(topics);
            }
            Described::Group => {
                sys::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), names.len(), options, queue);
            }
        }
        let event = sys::rd_kafka_queue_poll(queue, timeout);
        let answer = allowed_by(event, described);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

/// Reads the answer to [`allowed`].
///
/// # Safety
///
/// `event` is null, or answers the request for `described` and is not destroyed yet.
unsafe fn allowed_by(
    event: *mut sys::rd_kafka_event_t,
    described: Described,
) -> Result<Option<Vec<u32>>, RDKafkaErrorCode> {
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    let mut count = 0;
    // SAFETY: the event is alive, and all that is read is a part of it. The arrays have as many elements as is said.
    unsafe {
        let code = RDKafkaErrorCode::from(sys::rd_kafka_event_error(event));
        if code != RDKafkaErrorCode::NoError {
            return Err(code);
        }
        let (error, operations) = match described {
            Described::Topic => {
                let result = sys::rd_kafka_event_DescribeTopics_result(event);
                let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                if count == 0 {
                    return Ok(None);
                }
                (
                    sys::rd_kafka_TopicDescription_error(*topics),
                    sys::rd_kafka_TopicDescription_authorized_operations(*topics, &raw mut count),
                )
            }
            Described::Group => {
                let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
                let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
                if count == 0 {
                    return Ok(None);
                }
                (
                    sys::rd_kafka_ConsumerGroupDescription_error(*groups),
                    sys::rd_kafka_ConsumerGroupDescription_authorized_operations(*groups, &raw mut count),
                )
            }
        };
        if !error.is_null() {
            let code = RDKafkaErrorCode::from(sys::rd_kafka_error_code(error));
            if code != RDKafkaErrorCode::NoError {
                return Err(code);
            }
        }
        if operations.is_null() {
            return Ok(None);
        }
        Ok(Some(slice::from_raw_parts(operations, count).iter().map(|&operation| operation as u32).collect()))
    }
}

/// OpenSSL's number for the error of a broker's certificate; `None` without one, or if no broker answers.
#[must_use]
pub(crate) fn certificate_error(config: &ClientConfig) -> Option<c_int> {
    const PATIENCE: Duration = Duration::from_secs(10);

    #[allow(clippy::too_many_arguments, reason = "librdkafka's signature")]
    unsafe extern "C" fn verify(
        _: *mut sys::rd_kafka_t,
        _: *const c_char,
        _: i32,
        error: *mut c_int,
        _: c_int,
        _: *const c_char,
        _: usize,
        _: *mut c_char,
        _: usize,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: librdkafka passes a valid pointer to OpenSSL's number, and the opaque pointer that is set below; its
        // target outlives the client.
        let (error, found) = unsafe { (*error, &*found.cast::<AtomicI32>()) };
        if error != 0 {
            found.store(error, Ordering::Release);
        }
        c_int::from(error == 0)
    }

    let found = AtomicI32::new(0);
    let mut text = [0; 512];
    // SAFETY: the properties are copied; the client takes the configuration, and is destroyed, with all its threads,
    // before `found` is dropped.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        for (name, value) in config.config_map() {
            let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { continue };
            sys::rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), text.as_mut_ptr(), text.len());
        }
        sys::rd_kafka_conf_set_log_cb(conf, None);
        sys::rd_kafka_conf_set_opaque(conf, (&raw const found).cast_mut().cast());
        sys::rd_kafka_conf_set_ssl_cert_verify_cb(conf, Some(verify));
        let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
        let client = sys::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len());
        if client.is_null() {
            sys::rd_kafka_conf_destroy(conf);
            return None;
        }
        let deadline = Instant::now() + PATIENCE;
        while found.load(Ordering::Acquire) == 0 && Instant::now() < deadline {
            sys::rd_kafka_poll(client, 20);
        }
        sys::rd_kafka_destroy(client);
    }
    Some(found.into_inner()).filter(|error| *error != 0)
}
